"""A study whose store is S3: shipped by the listener, read and worked on, results delivered."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from services.cli.stack import running_state
from services.common.store import open_store
from tests.builders.s3_server import S3Server
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import SEG, SR, StackUnderTest, running_stack


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3Server]:
    """An S3 server of this module's own: its tests stop it."""
    with S3Server(tmp_path_factory.mktemp("s3") / "server") as running:
        yield running


@pytest.fixture(scope="module")
def s3_stack(
    server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Generator[StackUnderTest]:
    """A stack whose study store lies in S3."""
    store = {**server.settings("hospital"), "timeout_s": 2, "cache_bytes": 64 << 20}
    with running_stack(tmp_path_factory.mktemp("stack"), store=store) as running:
        yield running


def _arrived(stack: StackUnderTest, uid: str) -> None:
    study = stack.wait_until_done(uid)
    assert [fate["reason"] for fate in study["fate"]] == ["segmented"], stack.last_words()
    assert len(stack.in_pacs(uid, SEG)) == len(stack.in_pacs(uid, SR)) == 1


def test_study_goes_the_whole_way_through_s3(s3_stack: StackUnderTest, tmp_path: Path) -> None:
    uid = study_uid("s3-whole")
    files = write_head(tmp_path, "s3-whole")
    s3_stack.send_until_accepted(tmp_path)
    _arrived(s3_stack, uid)
    store = open_store(s3_stack.settings)
    assert len(list(store.list(f"studies/{uid}"))) == len(files)
    assert {key.key.rpartition("/")[2] for key in store.list("jobs")} >= {
        "labels.npy.gz",
        "seg.dcm",
        "sr.dcm",
    }
    assert not (s3_stack.settings.data_dir / "store").exists()
    assert not [file for file in s3_stack.settings.outbox_dir.rglob("*") if file.is_file()]


def test_server_that_is_away_delays_a_study_and_loses_nothing(
    s3_stack: StackUnderTest, server: S3Server, tmp_path: Path
) -> None:
    uid = study_uid("s3-away")
    write_head(tmp_path, "s3-away")
    server.stop()
    s3_stack.send_until_accepted(tmp_path)
    s3_stack.wait(uid, lambda study: study["revision"] == 1, "be frozen")
    study = s3_stack.study(uid)
    assert study is not None
    assert study["jobs"] == []  # nothing is announced before all of it lies in the store
    server.start()
    _arrived(s3_stack, uid)


def test_listener_killed_while_the_server_is_away_ships_when_both_are_back(
    s3_stack: StackUnderTest, server: S3Server, tmp_path: Path
) -> None:
    uid = study_uid("s3-killed")
    write_head(tmp_path, "s3-killed")
    server.stop()
    s3_stack.crash_at("listener.instance.registered")
    s3_stack.send_until_accepted(tmp_path)
    s3_stack.wait_for_crash()
    assert running_state(s3_stack.settings) is not None
    server.start()
    s3_stack.send_until_accepted(tmp_path)
    _arrived(s3_stack, uid)
