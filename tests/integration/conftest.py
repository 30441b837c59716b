"""What integration tests of several rooms share: a real S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from services.common.settings import Settings, StoreSettings
from services.common.store import StudyStore, open_store
from tests.builders.s3_server import S3Server

OpenBucket = Callable[..., StudyStore]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3Server]:
    """A server for this test session, for tests that do not stop it."""
    with S3Server(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture
def s3_store(s3_server: S3Server, tmp_path: Path) -> StudyStore:
    """An empty study store in S3 of this test's own."""
    return open_s3(s3_server, tmp_path / "store-cache", uuid.uuid4().hex)


def open_s3(server: S3Server, cache: Path, prefix: str, **changes: object) -> StudyStore:
    """A study store below a prefix of the server's bucket."""
    settings = {**server.settings(prefix), "cache_dir": cache, **changes}
    return open_store(Settings(store=StoreSettings.model_validate(settings)))
