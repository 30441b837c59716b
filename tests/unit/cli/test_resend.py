"""`axial resend`: what is asked of the gateway, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.gateway_client import GatewayClient
from services.cli.tree import app


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What was posted to a gateway that has two delivered and one replaced result."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def post(_: GatewayClient, path: str, **query: Any) -> dict[str, int]:
        calls.append((path, query))
        again = 2 if query["delivered"] else 0
        return {"count": again, "delivered": 2 - again, "superseded": 1, "held": 1}

    monkeypatch.setattr(GatewayClient, "post", post)
    return calls


def resend(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["resend", *arguments])


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["pacs"], {"destination": "pacs", "delivered": False}),
        (["--destination", "pacs"], {"destination": "pacs", "delivered": False}),
        (["--study", "1.2", "--delivered"], {"study_uid": "1.2", "delivered": True}),
        (
            ["--result", "2.25.7", "--destination", "pacs", "--delivered"],
            {"sop_instance_uid": "2.25.7", "destination": "pacs", "delivered": True},
        ),
        (["--delivery", "2.25.1"], {"delivery_uid": "2.25.1", "delivered": False}),
    ],
)
def test_what_is_named_is_asked_for(
    posted: list[tuple[str, dict[str, Any]]], arguments: list[str], asked: dict[str, Any]
) -> None:
    assert resend(*arguments).exit_code == 0
    assert posted == [("/api/v1/deliveries/resend", asked)]


def test_what_stays_is_said_with_the_way_to_send_it(
    posted: list[tuple[str, dict[str, Any]]],
) -> None:
    said = resend("--study", "1.2").output
    assert "0 delivery(ies) put back on the queue." in said
    assert "2 were delivered; --delivered sends them again." in said
    assert "1 are replaced by newer results and stay." in said
    assert "1 are held back: the destination does not have what they refer to." in said
    assert "were delivered" not in resend("--study", "1.2", "--delivered").output


def test_for_machines_the_counts_are_there(posted: list[tuple[str, dict[str, Any]]]) -> None:
    said = json.loads(resend("pacs", "--json").output)
    assert said == {"count": 0, "delivered": 2, "superseded": 1, "held": 1}


def test_nothing_named_or_two_destinations_are_refused(
    posted: list[tuple[str, dict[str, Any]]],
) -> None:
    assert "Name what to send again" in resend("--delivered").output
    assert "Two destinations" in resend("pacs", "--destination", "other").output
    assert posted == []


def test_help_has_examples() -> None:
    assert "axial resend --study 1.2.840.1 --delivered" in " ".join(resend("--help").output.split())
