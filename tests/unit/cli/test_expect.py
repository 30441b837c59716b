"""`axial expect`: what is asked of the gateway, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.gateway_client import GatewayClient
from services.cli.tree import app


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What was posted to a gateway at which seven instances are there."""
    calls: list[tuple[str, Any]] = []

    def post_document(_: GatewayClient, path: str, document: Any) -> dict[str, Any]:
        calls.append((path, document))
        there = document["instances"] == 7
        return {"study_uid": "1.2", "received": 7, "revision": int(there), "frozen_now": there}

    monkeypatch.setattr(GatewayClient, "post_document", post_document)
    return calls


def expect(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["expect", "1.2", *arguments])


def test_counts_of_study_and_series_are_passed_on(posted: list[tuple[str, Any]]) -> None:
    result = expect("--instances", "9", "--series", "1.2.1=7", "--series", "1.2.2=2")
    assert (result.exit_code, result.output) == (0, "Noted; 7 instance(s) are there.\n")
    assert posted == [
        ("/api/v1/studies/1.2/expectation", {"instances": 9, "series": {"1.2.1": 7, "1.2.2": 2}})
    ]


def test_a_study_that_is_there_is_said_to_be_frozen(posted: list[tuple[str, Any]]) -> None:
    assert "7 instance(s) are there: revision 1 frozen now." in expect("--instances", "7").output
    assert json.loads(expect("--instances", "7", "--json").output)["frozen_now"] is True
    assert len(posted) == 2


@pytest.mark.parametrize("arguments", [(), ("--series", "1.2.1"), ("--series", "1.2.1=x")])
def test_what_is_no_count_is_refused_with_what_to_give(
    posted: list[tuple[str, Any]], arguments: tuple[str, ...]
) -> None:
    result = expect(*arguments)
    assert result.exit_code == 1
    assert "--series UID=N" in result.output
    assert posted == []
