"""Building a model for a target: fetch, convert, compare with the trained networks, publish.

Nothing heavy is imported before it is known that there is something to build: a second run
compares keys and is done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.building.errors import BuildError
from models.building.repository import (
    current_record,
    list_built_files,
    publish,
    repository_folder,
    staging,
)
from models.building.triton_config import MODEL_PY, pipeline_config
from models.manifest import BuildRecord, Manifest, Precision, Target, load_manifest
from models.manifest.loading import MANIFEST_FILE
from models.manifest.record import BUILD_RECORD_FILE

if TYPE_CHECKING:
    from models.building.targets import Built

__all__ = ["Report", "build_model"]

# Called with a step's name and what is done or was found in it.
Report = Callable[[str, str], None]

# Raised when the same manifest would be built into other files.
_BUILD_VERSION: Final = "axial-build/1"
_TOOLS: Final = {
    Target.CPU: ("openvino", "torch", "numpy"),
    Target.TORCH: ("torch", "numpy"),
    Target.TENSORRT: ("tensorrt", "torch", "onnx", "numpy"),
}


def _silent(step: str, detail: str) -> None:
    """Report to nobody."""


def build_model(
    manifest_folder: Path,
    target: Target | str,
    output_root: Path,
    *,
    precision: Precision | str | None = None,
    cache: Path | None = None,
    report: Report = _silent,
) -> BuildRecord:
    """Build one model of the catalogue for one target; returns at once when it is built already.

    `precision` None takes the first of the manifest's that the device confirms; another must be
    among the manifest's. `cache` (default: `cache` beside `output_root`) keeps wheels and their
    files. The Triton repository is `<output_root>/<target>/repository`. Raises BuildError: the
    device lacks the target, a file is not the one pinned, or parity is outside its bounds.
    """
    target = Target(target)
    manifest = load_manifest(manifest_folder)
    wanted = _wanted(manifest, target, precision)
    key = _build_key(manifest, target, wanted)
    repository = repository_folder(output_root, target)
    current = current_record(repository / manifest.name, key)
    if current is not None:
        report("cached", f"{manifest.name} {current.precision.value} {current.digest[:12]}")
        return current
    started = time.monotonic()
    with staging(output_root, target) as work:
        current = current_record(repository / manifest.name, key)
        if current is not None:
            report("cached", f"{manifest.name} was built by another process meanwhile")
            return current
        from models.building.targets import build_networks

        cache = cache or output_root.parent / "cache"
        built = build_networks(manifest, target, wanted, cache, work / "networks", report)
        staged = work / "models"
        record = _stage(manifest_folder, manifest, target, built, staged, key, started)
        publish(staged, repository)
    report("built", f"{manifest.name} {record.precision.value} {record.digest[:12]}")
    return record


def _wanted(
    manifest: Manifest, target: Target, precision: Precision | str | None
) -> tuple[Precision, ...]:
    allowed = manifest.precision.of(target)
    if precision is None:
        return allowed
    try:
        chosen = Precision(precision)
    except ValueError as error:
        raise BuildError(f"{precision} is no precision; known are f32, bf16 and f16.") from error
    if chosen not in allowed:
        raise BuildError(
            f"{manifest.name} may not be built in {chosen.value} for {target.value}; its manifest "
            f"allows {', '.join(one.value for one in allowed)}."
        )
    return (chosen,)


def _build_key(manifest: Manifest, target: Target, wanted: tuple[Precision, ...]) -> str:
    """Return a hash over everything that a build depends on, without loading any of it."""
    parity = manifest.acceptance.parity.model_dump(mode="json")
    parts = {
        "build": _BUILD_VERSION,
        "model_py": MODEL_PY,
        "digests": [manifest.digest_for(one, target) for one in wanted],
        "parity": parity,
        "tools": _versions(target),
        "processor": _processor() if target is Target.CPU else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _versions(target: Target) -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _TOOLS[target]:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _processor() -> str:
    """Return what the processor can do; another one may not have a build's precision."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _stage(
    manifest_folder: Path,
    manifest: Manifest,
    target: Target,
    built: Built,
    staged: Path,
    key: str,
    started: float,
) -> BuildRecord:
    """Write the Triton models of a build and its record into an empty folder."""
    folder = staged / manifest.name
    inner = folder / "1"
    inner.mkdir(parents=True)
    digest = manifest.digest_for(built.precision, target)
    config = pipeline_config(manifest, digest, built.precision.value, target)
    (folder / "config.pbtxt").write_text(config)
    (inner / "model.py").write_text(MODEL_PY)
    shutil.copyfile(manifest_folder / MANIFEST_FILE, inner / "manifest.yaml")
    built.known_answer.save(inner / "known-answer.npz")
    built.place(manifest, staged)
    record = BuildRecord(
        model=manifest.name,
        version=manifest.version,
        digest=digest,
        target=target,
        precision=built.precision,
        build_key=key,
        parity=built.parity,
        versions=_versions(target),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 3),
        files=list_built_files(staged.iterdir()),
    )
    content = record.model_dump_json(by_alias=True, indent=2)
    (folder / BUILD_RECORD_FILE).write_text(content + "\n")
    return record
