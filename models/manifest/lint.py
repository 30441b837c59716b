"""Linting: whether a manifest that reads well can be built and run by this version.

Reading (`models.manifest.loading`) refuses what contradicts itself. Here is refused what promises
something that nothing does: a field that no network, pipeline or build would heed. What lies in a
store and was made by another version is read without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.manifest.alignment import aligns_of
from models.manifest.document import read_document
from models.manifest.errors import ManifestError
from models.manifest.findings import Disagreement
from models.manifest.loading import load_manifest, manifest_file
from models.manifest.plan import (
    CheckedPlan,
    GridType,
    LayersType,
    NumbersType,
    PlanError,
    check_plan,
)
from models.manifest.plan.infer import Infer
from models.manifest.plan.register import Register
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
    yield from _of_plan(manifest)
    yield from _of_findings(manifest)
    yield from _of_missing(manifest)


def _of_sources(manifest: Manifest) -> Iterator[Problem]:
    case = manifest.acceptance.parity.case
    read = {(case.source or "", case.path or "")}
    read |= {
        (one.weights.source, path)
        for one in manifest.networks.values()
        for path in one.weights.paths
    }
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
    if manifest.acceptance.parity.case.role != grid:
        yield Problem(
            ("acceptance", "parity", "case", "role"),
            f"the volume of the parity check is what the role of use: grid ({grid}) gets.",
            f"Write {grid}.",
        )


def _of_plan(manifest: Manifest) -> Iterator[Problem]:
    """Yield what keeps the plan from working, and what of the manifest no step heeds."""
    facts = {name: network.facts for name, network in manifest.networks.items()}
    outputs = tuple(output.of for output in manifest.outputs)
    made = {step.out for step in manifest.plan}
    for place, output in enumerate(manifest.outputs):
        if output.of not in made:
            remedy = f"Name one of {', '.join(sorted(made))}."
            yield Problem(("outputs", place, "of"), f"no step makes {output.of}.", remedy)
            return
    try:
        checked = check_plan(
            manifest.plan, tuple(manifest.roles), outputs, facts, aligns_of(manifest.roles)
        )
    except PlanError as error:
        path = ("plan", *error.path) if error.path else ("plan",)
        yield Problem(path, f"{error.problem}.", error.remedy)
        return
    yield from _of_outputs(manifest, checked)
    yield from _of_intervals(manifest)
    yield from _of_alignment(manifest, checked)
    ran: dict[str, int] = {}
    for place, step in enumerate(manifest.plan):
        for name in step.members if isinstance(step, Infer) else ():
            if name in ran:
                yield Problem(
                    ("plan", place, "members"),
                    f"step {ran[name]} runs {name} too, and a network is built for one step.",
                    "Give each an entry of its own under networks; they may share weights.",
                )
            ran[name] = place
    for name in manifest.networks:
        if name not in ran:
            yield Problem(("networks", name), "no step runs it.", "Remove it, or name it.")


def _of_missing(manifest: Manifest) -> Iterator[Problem]:
    for name, role in manifest.roles.items():
        if role.if_missing == "zeros":
            yield Problem(
                ("roles", name, "if_missing"),
                "no result of this version says that an input was missing.",
                "Write refuse, or leave it out.",
            )


def _of_alignment(manifest: Manifest, checked: CheckedPlan) -> Iterator[Problem]:
    registered = {
        value.grid.role
        for step, value in zip(manifest.plan, checked.made, strict=True)
        if isinstance(step, Register)
    }
    for role, align in aligns_of(manifest.roles).items():
        if align.by != "same-frame" and role not in registered:
            yield Problem(
                ("roles", role, "align", "by"),
                f"no step registers {role}.",
                f"Write a step register that reads it, or by: same-frame, which demands that "
                f"{role} and {align.to} name one frame of reference.",
            )


def _of_outputs(manifest: Manifest, checked: CheckedPlan) -> Iterator[Problem]:
    made: set[int] = set()
    wanted = {"layers": (LayersType, "segments"), "values": (NumbersType, "numbers")}
    for place, output in enumerate(manifest.outputs):
        value = checked.values[output.of]
        kind, called = wanted[output.kind]
        if not isinstance(value, kind):
            yield Problem(
                ("outputs", place, "of"),
                f"{output.of} holds no {called}.",
                f"Name {called}, or write another kind.",
            )
        elif value.grid != GridType(manifest.grid_role):
            yield Problem(
                ("outputs", place, "of"),
                f"{output.of} lies on {value.grid}, not on the slices of {manifest.grid_role}.",
                f"Restore it to {manifest.grid_role}.",
            )
        elif isinstance(value, LayersType):
            made |= set(value.segments)
        else:
            yield from _of_numbers(manifest, output.name, value)
    for place, segment in enumerate(manifest.segments):
        if segment.number not in made:
            yield Problem(
                ("segments", place),
                f"the plan makes {', '.join(map(str, sorted(made))) or 'none'} alone.",
                f"Remove segment {segment.number}.",
            )
    for number in sorted(made - {segment.number for segment in manifest.segments}):
        yield Problem(
            ("segments",), f"the plan makes segment {number}, which is not listed.", "List it."
        )


def _of_intervals(manifest: Manifest) -> Iterator[Problem]:
    """Yield intervals of other segments than those that are reported."""
    reported = manifest.layers.of
    for place, measurement in enumerate(manifest.measurements):
        of = {output.of for output in manifest.outputs if output.name == measurement.interval}
        read = [step.in_ for step in manifest.plan if step.out in of]
        if read not in ([], [reported]):
            yield Problem(
                ("measurements", place, "interval"),
                f"{measurement.interval} is measured of {read[0]}, and {reported} is reported.",
                f"Measure the uncertainty of {reported}.",
            )


def _of_numbers(manifest: Manifest, output: str, numbers: NumbersType) -> Iterator[Problem]:
    """Yield what is asked of an output of kind values and is not among its numbers."""
    for place, measurement in enumerate(manifest.measurements):
        of = measurement.segments or tuple(one.number for one in manifest.segments)
        for number in of if measurement.interval == output else ():
            if number not in numbers.segments:
                yield Problem(
                    ("measurements", place, "interval"),
                    f"{output} has no volumes of segment {number}.",
                    f"It has {', '.join(map(str, numbers.segments))}.",
                )
    for place, finding in enumerate(manifest.findings):
        if not isinstance(finding, Disagreement) or finding.of != output:
            continue
        if finding.number not in numbers.names:
            yield Problem(
                ("findings", place, "number"),
                f"{output} has no {finding.number}: the scores are no probabilities.",
                "Write disagreement, which is counted in segments.",
            )
        elif finding.segment not in numbers.segments:
            yield Problem(
                ("findings", place, "segment"),
                f"{output} says nothing of segment {finding.segment}.",
                f"It has {', '.join(map(str, numbers.segments))}.",
            )


def _of_findings(manifest: Manifest) -> Iterator[Problem]:
    for place, finding in enumerate(manifest.findings):
        if not any(
            finding.segment in measurement.segments or not measurement.segments
            for measurement in manifest.measurements
        ):
            yield Problem(
                ("findings", place),
                f"the volume of segment {finding.segment} is not measured, and what is found of "
                "it is told beside that.",
                "Ask for it under measurements, or remove this.",
            )
