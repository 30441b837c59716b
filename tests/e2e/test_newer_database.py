"""Two versions side by side: the services of this one on a database that a newer one migrated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from services.cli.output import CommandError
from services.common.database import open_database
from services.common.settings import Settings
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import CHECKOUT, SEG, running_stack

SERVICES = ("listener", "orchestrator", "reporting", "gateway")


def _stamp(settings: Settings, usable_from: str | None = None) -> None:
    """As a newer version leaves a database behind."""
    engine = open_database(settings.resolved_database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        if usable_from is not None:
            connection.execute(text("UPDATE schema_version SET usable_from = '9998'"))
    engine.dispose()


def test_services_start_and_work_on_a_database_that_says_they_may(tmp_path: Path) -> None:
    with running_stack(tmp_path / "stack") as stack:
        _stamp(stack.settings)
    write_head(tmp_path / "study", "newer")
    with running_stack(tmp_path / "stack") as again:
        again.send(tmp_path / "study")
        study = again.wait_until_done(study_uid("newer"))
        assert [fate["reason"] for fate in study["fate"]] == ["segmented"]
        assert len(again.in_pacs(study_uid("newer"), SEG)) == 1


def test_services_decline_a_database_that_is_too_new_in_one_sentence(tmp_path: Path) -> None:
    with running_stack(tmp_path / "stack") as stack:
        _stamp(stack.settings, usable_from="9998")
    for service in SERVICES:
        done = subprocess.run(
            [sys.executable, "-m", f"services.{service}", "--config", str(stack.settings_file)],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1, service
        said = done.stdout + done.stderr
        assert "The database has version 9999" in said
        assert "Traceback" not in said
    with pytest.raises(CommandError, match="The database has version 9999"):
        stack.stack.start()
