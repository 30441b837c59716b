"""Linting: whether a manifest that reads well can be built and run by this version.

Reading (`models.manifest.loading`) refuses what contradicts itself. Here is refused what promises
something that nothing does: a field that no network, pipeline or build would heed. What lies in a
store and was made by another version is read without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.manifest.document import read_document
from models.manifest.errors import ManifestError
from models.manifest.loading import load_manifest, manifest_file
from models.manifest.schema import Manifest

__all__ = ["Problem", "lint_manifest", "problem_in", "problems_of"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A field (`path` of keys and list places) that cannot be kept, and what to do."""

    path: tuple[str | int, ...]
    problem: str
    remedy: str


def lint_manifest(path: Path) -> Manifest:
    """Read one manifest, as `load_manifest`, that can be built and run here.

    Raises:
        ManifestError: names file, line, field and remedy of the first thing that cannot be built or
            run.
    """
    manifest = load_manifest(path)
    for problem in problems_of(manifest):
        raise problem_in(path, problem)
    return manifest


def problem_in(path: Path, problem: Problem) -> ManifestError:
    """Return the error for a field of the manifest in a file or a model's folder, with its line."""
    file = manifest_file(path)
    line, known = read_document(file).line_of(problem.path)
    field = ".".join(str(step) for step in known or problem.path)
    return ManifestError(file, problem.problem, problem.remedy, line=line, field=field)


def problems_of(manifest: Manifest) -> Iterator[Problem]:
    """Yield every field that nothing would heed."""
    yield from _of_sources(manifest)
    yield from _of_inputs(manifest)
    yield from _of_networks(manifest)
    yield from _of_segments(manifest)


def _of_sources(manifest: Manifest) -> Iterator[Problem]:
    case = manifest.acceptance.parity.case
    read = {(case.source, case.path)}
    read |= {(one.weights.source, one.weights.path) for one in manifest.networks.values()}
    for name, source in manifest.sources.items():
        for place, file in enumerate(source.files):
            if (name, file.path) not in read:
                yield Problem(
                    ("sources", name, "files", place),
                    f"nothing reads {file.path}.",
                    "Name it under networks.*.weights or acceptance.parity.case, or remove it.",
                )


def _of_inputs(manifest: Manifest) -> Iterator[Problem]:
    grid = manifest.grid_role
    for name, network in manifest.networks.items():
        if network.inputs != (grid,):
            yield Problem(
                ("networks", name, "inputs"),
                f"this version feeds a network from one role, grid_role ({grid}), not from "
                f"{', '.join(network.inputs)}.",
                f"Write [{grid}].",
            )
    for role in manifest.roles:
        if role != grid:
            yield Problem(
                ("roles", role), "no network reads this role.", "Remove it, or feed it to one."
            )
    if manifest.acceptance.parity.case.role != grid:
        yield Problem(
            ("acceptance", "parity", "case", "role"),
            f"the head of the parity check is what grid_role ({grid}) gets.",
            f"Write {grid}.",
        )


def _of_networks(manifest: Manifest) -> Iterator[Problem]:
    scheme = manifest.pipeline
    used = (scheme.coarse.network, scheme.fine.network)
    if used[0] == used[1]:
        yield Problem(
            ("pipeline", "fine", "network"),
            f"the coarse stage is {used[0]} too, and a network is built with one channel and one "
            "threshold.",
            "Give each stage an entry of its own under networks; they may share weights.",
        )
    for name in manifest.networks:
        if name not in used:
            yield Problem(
                ("networks", name), "the pipeline runs no such network.", "Remove it, or name it."
            )


def _of_segments(manifest: Manifest) -> Iterator[Problem]:
    made = manifest.pipeline.fine.segment
    for place, segment in enumerate(manifest.segments):
        if segment.number != made:
            yield Problem(
                ("segments", place),
                f"the pipeline makes segment {made} alone.",
                f"Remove segment {segment.number}.",
            )
    for place, range_ in enumerate(manifest.acceptance.plausible):
        if not any(
            range_.segment in measurement.segments or not measurement.segments
            for measurement in manifest.measurements
        ):
            yield Problem(
                ("acceptance", "plausible", place),
                f"the volume of segment {range_.segment} is not measured, so nothing is judged.",
                "Ask for it under measurements, or remove the range.",
            )
    for place, step in enumerate(manifest.postprocess):
        if step.segment != made:
            yield Problem(
                ("postprocess", place, "segment"),
                f"the pipeline makes segment {made} alone.",
                f"Write {made}.",
            )
