"""A catalogue with one real model, and the record that says it was built; nothing is built."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine

from models.manifest import BuildRecord
from services.common.settings import Settings, TritonSettings
from services.common.store import StudyStore
from services.orchestrator.stages import StageContext

CATALOGUE = Path(__file__).parents[2] / "models" / "catalogue"
MODEL = "brain-extraction"


def write_build_record(folder: Path, model: str = MODEL) -> Path:
    """Says that a model was built for the CPU; `stage_context` of the folder finds it.

    Returns:
        The record's file.
    """
    target = folder / "built" / "cpu" / "repository" / model
    target.mkdir(parents=True, exist_ok=True)
    record = BuildRecord.model_validate(
        {
            "schema": "axial.build/v1",
            "model": model,
            "version": "1",
            "digest": "d" * 64,
            "target": "cpu",
            "precision": "f32",
            "build_key": "e" * 64,
            "parity": (),
            "versions": {},
            "built_at": "2026-01-15",
            "seconds": 1.0,
            "files": (),
        }
    )
    file = target / "build-record.json"
    file.write_text(record.model_dump_json(by_alias=True))
    return file


def stage_context(engine: Engine, folder: Path) -> StageContext:
    """What stages work with, in a folder; there is nobody to infer or report."""
    shutil.copytree(CATALOGUE / MODEL, folder / "catalogue" / MODEL)
    return StageContext(
        settings=Settings(
            catalogue_dir=folder / "catalogue", triton=TritonSettings(repository=folder / "built")
        ),
        engine=engine,
        store=StudyStore(folder / "store"),
        inference=cast(Any, None),
        reporting=cast(Any, None),
    )
