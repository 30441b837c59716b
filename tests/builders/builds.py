"""Small folders that are builds as far as their records say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from models.manifest import BuildRecord, Precision, Target, build_folder
from models.manifest.record import BUILD_RECORD_FILE

__all__ = ["record_of", "write_build"]

_BUILT = datetime(2026, 1, 1, tzinfo=UTC)


def record_of(model: str, digest: str, built_at: datetime = _BUILT) -> BuildRecord:
    """The record of a build of nothing."""
    return BuildRecord(
        model=model,
        version="1.0.0",
        digest=digest,
        target=Target.CPU,
        precision=Precision.F32,
        build_key="e" * 64,
        parity=(),
        versions={},
        built_at=built_at.isoformat(timespec="seconds"),
        seconds=1.0,
        files=(),
    )


def write_build(
    output_root: Path, model: str, digest: str, built_at: datetime = _BUILT
) -> BuildRecord:
    """Writes a build for the CPU that holds its record alone."""
    record = record_of(model, digest, built_at)
    folder = build_folder(output_root, Target.CPU, model, digest)
    folder.mkdir(parents=True)
    (folder / BUILD_RECORD_FILE).write_text(record.model_dump_json(by_alias=True))
    return record
