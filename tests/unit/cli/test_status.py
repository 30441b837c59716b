"""`axial status STUDY` also tells what froze each revision."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.gateway_client import GatewayClient
from services.cli.tree import app

STUDY: dict[str, Any] = {
    "study_uid": "1.2",
    "state": "done",
    "revision": 2,
    "series": 2,
    "instances": 350,
    "revisions": [
        {"number": 1, "trigger": "wanted", "instances": 175},
        {"number": 2, "trigger": "quiet", "instances": 350},
    ],
    "fate": [],
    "jobs": [],
}


def test_the_list_calls_instances_what_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object of 520 frames is one instance; its images are counted for each series."""
    listed = [{**STUDY, "instances": 1, "fates": {"processed": 1}}]
    monkeypatch.setattr(GatewayClient, "get", lambda *_, **__: {"studies": listed})
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 0
    assert "instances" in result.output.splitlines()[0]
    assert "images" not in result.output


def test_status_says_what_froze_each_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GatewayClient, "get", lambda *_: STUDY)
    result = CliRunner().invoke(app, ["status", "1.2"])
    assert result.exit_code == 0
    assert "revision 1: wanted, 175 instances" in result.output
    assert "revision 2: quiet, 350 instances" in result.output


@pytest.mark.parametrize(("progress", "shown"), [(0.43, "43%"), (None, "")])
def test_a_job_that_takes_long_shows_a_bar(
    monkeypatch: pytest.MonkeyPatch, progress: float | None, shown: str
) -> None:
    job = {
        "model": "ich-ct",
        "model_version": "1.0.0",
        "revision": 1,
        "state": "selected",
        "progress": progress,
        "sentence": None,
        "stages": [],
        "deliveries": [],
    }
    monkeypatch.setattr(GatewayClient, "get", lambda *_: {**STUDY, "jobs": [job]})
    result = CliRunner().invoke(app, ["status", "1.2"])
    assert result.exit_code == 0
    assert ("segmenting" in result.output) == (progress is not None)
    assert shown in result.output
