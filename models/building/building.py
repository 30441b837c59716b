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
    clear_old_layout,
    current_record,
    list_built_files,
    publish,
    say_served,
    staging,
)
from models.building.triton_config import MODEL_PY, pipeline_config
from models.manifest import (
    BuildRecord,
    Manifest,
    Precision,
    Target,
    build_folder,
    lint_manifest,
    repository_folder,
    triton_model_name,
)
from models.manifest.loading import MANIFEST_FILE
from models.manifest.record import BUILD_RECORD_FILE

if TYPE_CHECKING:
    from models.building.targets import Built

__all__ = ["Report", "build_model"]

# Called with a step's name and what is done or was found in it.
Report = Callable[[str, str], None]

# Raised when the same manifest would be built into other files.
_BUILD_VERSION: Final = {
    Target.CPU: "axial-build/2",
    Target.TORCH: "axial-build/2",
    Target.TENSORRT: "axial-build/3",
}
_TOOLS: Final = {
    Target.CPU: ("openvino", "torch", "numpy"),
    Target.TORCH: ("torch", "numpy"),
    Target.TENSORRT: ("tensorrt", "torch", "onnx", "numpy"),
}
# TensorRT comes under its own name or that of one CUDA release; the first that is there counts.
_ALSO_NAMED: Final = {"tensorrt": ("tensorrt-cu13", "tensorrt-cu12")}


def _silent(step: str, detail: str) -> None:
    """Report to nobody."""


def build_model(
    manifest_folder: Path,
    target: Target | str,
    output_root: Path,
    *,
    precision: Precision | str | None = None,
    cache: Path | None = None,
    mirror: Path | None = None,
    serve: bool = True,
    report: Report = _silent,
) -> BuildRecord:
    """Build one model of the catalogue for one target; returns at once when it is built already.

    `precision` None takes the first of the manifest's that the device confirms; another must be
    among the manifest's. `cache` (default: `cache` beside `output_root`) keeps wheels and their
    files. The build lies beside others of the model in `<output_root>/<target>/repository`; with
    `serve` it is the one to be served from now on (`models.manifest.served`).

    Raises:
        BuildError: the device lacks the target, a file is not the one pinned, or parity is outside
            its bounds.
        ManifestError: the manifest promises what cannot be built.
    """
    target = Target(target)
    manifest = lint_manifest(manifest_folder)
    wanted = _wanted(manifest, target, precision)
    record = _current(manifest, target, wanted, output_root)
    if record is None:
        record = _made(
            manifest_folder, manifest, target, wanted, output_root, cache, mirror, report
        )
    else:
        report("cached", _named(record))
    if serve and say_served(output_root, record):
        report("serves", _named(record))
    return record


def _made(
    manifest_folder: Path,
    manifest: Manifest,
    target: Target,
    wanted: tuple[Precision, ...],
    output_root: Path,
    cache: Path | None,
    mirror: Path | None,
    report: Report,
) -> BuildRecord:
    started = time.monotonic()
    repository = repository_folder(output_root, target)
    with staging(output_root, target) as work:
        record = _current(manifest, target, wanted, output_root)
        if record is not None:
            report("cached", f"{_named(record)} was built by another process meanwhile")
            return record
        from models.building.targets import build_networks

        cache = cache or output_root.parent / "cache"
        built = build_networks(
            manifest_folder, manifest, target, wanted, cache, work / "networks", report, mirror
        )
        staged = work / "models"
        record = _stage(manifest_folder, manifest, built, staged, started)
        if not publish(staged, repository):
            report(
                "exchanged",
                "this file system cannot exchange folders: an earlier build of the same digest "
                "was missing for a moment",
            )
        for name in clear_old_layout(manifest, repository, work):
            report("cleared", f"{name}, a build as earlier versions kept them")
    report("built", _named(record))
    return record


def _named(record: BuildRecord) -> str:
    return f"{record.model} {record.precision.value} {record.digest[:12]}"


def _current(
    manifest: Manifest, target: Target, wanted: tuple[Precision, ...], output_root: Path
) -> BuildRecord | None:
    """Return the build that would be made, when it is there; without loading anything heavy.

    The most wanted precision decides, and the next where an earlier build of the same tools found
    that this device does not compute in it.
    """
    found: dict[Precision, BuildRecord] = {}
    for one in wanted:
        folder = build_folder(output_root, target, manifest.name, manifest.digest_for(one, target))
        record = current_record(folder, _build_key(manifest, target, one))
        if record is not None:
            found[one] = record
    for one in wanted:
        if one in found:
            return found[one]
        if not any(one in record.unconfirmed for record in found.values()):
            return None
    return None


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


def _build_key(manifest: Manifest, target: Target, precision: Precision) -> str:
    """Return a hash over everything that a build depends on, without loading any of it."""
    parity = manifest.acceptance.parity.model_dump(mode="json")
    digest = manifest.digest_for(precision, target)
    parts = {
        "build": _BUILD_VERSION[target],
        "model_py": MODEL_PY,
        "config": pipeline_config(manifest, digest, precision.value, target),
        "digest": digest,
        "parity": parity,
        "tools": _versions(target),
        "processor": _processor() if target is Target.CPU else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _versions(target: Target) -> dict[str, str]:
    return {package: _version(package) for package in _TOOLS[target]}


def _version(package: str) -> str:
    for name in (package, *_ALSO_NAMED.get(package, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "missing"


def _processor() -> str:
    """Return what the processor can do; another one may not have a build's precision."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _stage(
    manifest_folder: Path, manifest: Manifest, built: Built, staged: Path, started: float
) -> BuildRecord:
    """Write the Triton models of a build and its record into an empty folder."""
    target = built.target
    digest = manifest.digest_for(built.precision, target)
    folder = staged / triton_model_name(manifest.name, digest)
    inner = folder / "1"
    inner.mkdir(parents=True)
    config = pipeline_config(manifest, digest, built.precision.value, target)
    (folder / "config.pbtxt").write_text(config)
    (inner / "model.py").write_text(MODEL_PY)
    shutil.copyfile(manifest_folder / MANIFEST_FILE, inner / "manifest.yaml")
    built.known_answer.save(inner / "known-answer.npz")
    built.place(manifest, digest, staged)
    record = BuildRecord(
        model=manifest.name,
        version=manifest.version,
        digest=digest,
        target=target,
        precision=built.precision,
        build_key=_build_key(manifest, target, built.precision),
        parity=built.parity,
        unconfirmed=built.unconfirmed,
        versions=_versions(target),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 3),
        files=list_built_files(staged.iterdir()),
    )
    content = record.model_dump_json(by_alias=True, indent=2)
    (folder / BUILD_RECORD_FILE).write_text(content + "\n")
    return record
