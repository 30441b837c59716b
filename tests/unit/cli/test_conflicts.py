"""`axial conflicts` lists what waits for a decision, and passes decisions on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.gateway_client import GatewayClient
from services.cli.tree import app

OPEN: dict[str, Any] = {
    "study_uid": "1.2",
    "series_uid": "1.2.3",
    "count": 2,
    "differs": ["pixels"],
    "state": "open",
    "waits": True,
    "sentence": "2 images of this series came again with other pixels.",
}


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["conflicts", *words])
    return result.exit_code, " ".join(result.output.split())


def test_only_what_waits_is_listed_unless_all_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    decided = {**OPEN, "series_uid": "1.2.4", "state": "kept", "waits": False}
    monkeypatch.setattr(GatewayClient, "get", lambda *_, **__: [OPEN, decided])
    code, said = run("list")
    assert code == 0
    assert OPEN["sentence"] in said
    assert "1.2.4" not in said
    assert [one["series_uid"] for one in json.loads(run("list", "--all", "--json")[1])] == [
        "1.2.3",
        "1.2.4",
    ]


def test_without_conflicts_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GatewayClient, "get", lambda *_, **__: [])
    assert run("list") == (0, "No conflict waits for a decision.")


def test_without_a_command_what_waits_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of a refusal say that `axial conflicts` lists the images."""
    monkeypatch.setattr(GatewayClient, "get", lambda *_, **__: [OPEN])
    assert run() == run("list")
    assert OPEN["sentence"] in run()[1]


def test_a_decision_names_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def post(_client: GatewayClient, path: str, **query: Any) -> dict[str, int]:
        asked.append({"path": path, **query})
        return {"count": 2}

    monkeypatch.setattr(GatewayClient, "post", post)
    code, said = run("resolve", "1.2", "--keep", "latest")
    assert code == 0
    assert "2 conflict(s) decided" in said
    assert asked == [{"path": "/api/v1/conflicts/resolve", "uid": "1.2", "keep": "latest"}]
    assert run("resolve", "1.2")[0] == 2  # which of them counts has to be said


def test_nothing_to_decide_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GatewayClient, "post", lambda *_, **__: {"count": 0})
    code, said = run("resolve", "1.2", "--keep", "first")
    assert code == 1
    assert "axial conflicts list" in said
