"""`axial why` also tells that the images are gone."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.gateway_client import GatewayClient
from services.cli.tree import app
from services.common.incomplete import missing_sentence

FATE: dict[str, Any] = {
    "series_number": "5",
    "modality": "CT",
    "instances": 300,
    "images": 300,
    "model": "brain-extraction",
    "fate": "processed",
    "reason": "segmented",
    "sentence": "Brain extraction segmented this series.",
    "remedy": "",
    "values": {},
    "images_removed_at": None,
    "images_removed_because": None,
}


@pytest.mark.parametrize(
    ("because", "limit"),
    [
        ("age", "retention.max_age_d"),
        ("size", "retention.max_bytes"),
        ("space", "retention.min_free_bytes"),
        (None, None),
    ],
)
def test_why_says_that_the_images_were_removed_and_by_which_limit(
    monkeypatch: pytest.MonkeyPatch, because: str | None, limit: str | None
) -> None:
    removed = {"images_removed_at": because and "2026-03-01T12:00:00Z"}
    fate = {**FATE, **removed, "images_removed_because": because}
    monkeypatch.setattr(GatewayClient, "get", lambda _self, _path: [fate])
    told = CliRunner().invoke(app, ["why", "1.2.3"])
    assert told.exit_code == 0, told.output
    words = " ".join(told.output.split())
    assert FATE["sentence"] in words
    assert ("removed on 2026-03-01" in words) == (because is not None)
    assert limit is None or limit in words


def test_why_says_that_work_began_on_an_incomplete_study(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = missing_sentence({"announced": 170, "received": 120, "broken_off": 2})
    monkeypatch.setattr(GatewayClient, "get", lambda *_: [{**FATE, "incomplete": missing}])
    told = CliRunner().invoke(app, ["why", "1.2.3"])
    words = " ".join(told.output.split())
    assert "120 of 170 announced images had come, and 2 series were broken off" in words


def test_why_says_that_nothing_is_decided_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GatewayClient, "get", lambda _self, _path: [])
    told = CliRunner().invoke(app, ["why", "1.2.3"])
    assert told.exit_code == 0, told.output
    assert "Nothing is decided on 1.2.3 yet" in " ".join(told.output.split())
