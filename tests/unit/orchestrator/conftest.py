"""A database per test, on both engines, and the catalogue's model."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from models.manifest import Manifest, load_manifest
from services.common.database import migrate, open_database


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Engine]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'axial.sqlite'}"
    else:
        url = request.getfixturevalue("postgres_url")
    opened = open_database(url)
    migrate(opened)
    yield opened
    opened.dispose()


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """The brain-extraction model's manifest."""
    return load_manifest(Path(__file__).parents[3] / "models/catalogue/brain-extraction")
