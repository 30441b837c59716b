"""What every reader of a manifest makes of it: the other side of each field's promise.

Two manifests that are told apart by none of them are one model under two digests.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import pydicom
import torch

from models.building.fetching import fetch_source_file
from models.building.targets import save_modules
from models.manifest import Condition, Disagreement, Manifest, Role, evaluate, rank
from models.manifest.roles import Preference
from services.imaging import limits_of
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.interval import with_intervals
from services.reporting.analysis.judging import judge
from services.reporting.job import ModelNumbers
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.forms import PLAIN
from tests.builders.reporting import analysis_of, blobs, series_in

__all__ = ["Consumers"]

Told = Callable[[Manifest, Manifest], bool]
# Of whom an object says when it was written.
_TIMES = ("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime")


@dataclass(frozen=True, slots=True)
class Consumers:
    """The readers of manifests, in a folder of their own.

    Attributes:
        cache: wheels that are not downloaded.
        kept: what was made of manifests before.
    """

    folder: Path
    manifest_folder: Path
    cache: Path
    files: list[Path]
    kept: dict[tuple[str, str], list[Any]] = field(default_factory=dict[tuple[str, str], list[Any]])

    @classmethod
    def in_folder(cls, folder: Path, manifest_folder: Path, cache: Path) -> Consumers:
        """With a series of their own."""
        return cls(folder, manifest_folder, cache, series_in(folder / "series", "axial"))

    def told_apart_by(self, one: Manifest, other: Manifest, *, but: str = "") -> str:
        """The first reader that makes something else of the two; empty when none does.

        Args:
            one: a manifest.
            other: the manifest with another value somewhere.
            but: a reader that is not asked.

        Raises:
            ModelError: the other one is refused where it is read.
        """
        by: dict[str, Told] = {
            # That each setting of a step counts is tests/unit/models/test_every_setting_counts.
            "plan": lambda a, b: (
                (a.grid_role, a.plan, a.outputs) != (b.grid_role, b.plan, b.outputs)
            ),
            "selection": _select_differently,
            "gate": lambda a, b: _limits(a) != _limits(b),
            "objects": lambda a, b: self._once(self._objects, a) != self._objects(b),
            "judgement": lambda a, b: self._judged(a, b) != self._judged(b, a),
            "networks": lambda a, b: self._once(self._networks, a) != self._networks(b),
        }
        return next((name for name, differ in by.items() if name != but and differ(one, other)), "")

    def _once(self, make: Callable[[Manifest], list[Any]], manifest: Manifest) -> list[Any]:
        """What is made of the first of two, which is the same in every comparison."""
        key = (make.__name__, manifest.digest)
        if key not in self.kept:
            self.kept[key] = make(manifest)
        return self.kept[key]

    def _networks(self, manifest: Manifest) -> list[object]:
        """What the built networks answer to one image each, of the size that they are built for."""
        work = self.folder / "modules"
        work.mkdir(exist_ok=True)
        save_modules(self.manifest_folder, manifest, self.cache, work, lambda step, detail: None)
        made: list[object] = [self._parity_case(manifest)]
        for name, network in manifest.networks.items():
            image = torch.rand(1, 1, *network.patch, generator=torch.Generator().manual_seed(0))
            module = torch.jit.load(str(work / f"{name}.pt"))  # pyright: ignore[reportPrivateImportUsage]
            with torch.inference_mode():
                made.append((name, network.patch, module(4 * image - 2).numpy().tobytes()))
        return made

    def _parity_case(self, manifest: Manifest) -> object:
        """What volume builds are compared on; the file, which need not be one here."""
        case = manifest.acceptance.parity.case
        if case.source is None or case.path is None:
            return case.phantom
        folder = self.manifest_folder
        return fetch_source_file(folder, manifest, case.source, case.path, self.cache)

    def _analysis(self, manifest: Manifest) -> Analysis:
        numbers = [segment.number for segment in manifest.segments]
        analysis = analysis_of(self.files, blobs((7, 12, 10), numbers), manifest)
        # Every UID derives from the digest: without this all objects would differ by it.
        volumes = ("volume_ml", "volume_low_ml", "volume_high_ml")
        numbers = {name: dict.fromkeys(range(256), 1.0 + at) for at, name in enumerate(volumes)}
        job = replace(
            analysis.job,
            job_uid="2.25.1",
            model_digest="d" * 64,
            numbers={"uncertainty": ModelNumbers({"members": 3}, numbers)},
        )
        return replace(analysis, job=job, values=with_intervals(job, analysis.values))

    def _objects(self, manifest: Manifest) -> list[Any]:
        analysis = self._analysis(manifest)
        segmentation = encode_segmentation(analysis, PLAIN, 9000)
        report = encode_report(analysis, PLAIN, 9001, Context())
        return [_without_times(content) for content in (segmentation, report)]

    def _judged(self, manifest: Manifest, beside: Manifest) -> list[object]:
        """What is said of volumes and numbers at the limits of both."""
        analysis = self._analysis(manifest)
        limits = sorted(
            limit + step
            for limit in {*_limits_of(manifest), *_limits_of(beside)}
            for step in (-1e-6, 1e-6)
        )
        return [
            judge(
                replace(
                    analysis,
                    job=replace(analysis.job, numbers={"uncertainty": _all_at(name, limit)}),
                    values=tuple(replace(v, value=limit) for v in analysis.values),
                )
            )
            for name in get_args(Disagreement.model_fields["number"].annotation)
            for limit in limits
        ]


def _limits_of(manifest: Manifest) -> Iterator[float]:
    for finding in manifest.findings:
        if isinstance(finding, Disagreement):
            yield finding.above
        else:
            yield finding.min_ml
            yield finding.max_ml


def _all_at(name: str, value: float) -> ModelNumbers:
    """One number of every segment that a manifest may have."""
    return ModelNumbers({"members": 3}, {name: dict.fromkeys(range(256), value)})


def _without_times(content: bytes) -> Any:
    data = pydicom.dcmread(io.BytesIO(content))
    for keyword in _TIMES:
        if keyword in data:
            delattr(data, keyword)
    return data.to_json_dict()


def _limits(manifest: Manifest) -> list[object]:
    return [limits_of(role, "the test") for role in manifest.roles.values()]


def _select_differently(one: Manifest, other: Manifest) -> bool:
    if one.roles.keys() != other.roles.keys():
        return True
    return any(
        _role_differs(role, twin)
        for role, twin in zip(one.roles.values(), other.roles.values(), strict=True)
    )


def _role_differs(one: Role, other: Role) -> bool:
    # Whether every series is taken or the best, and which of a series' volumes, is the
    # orchestrator's to do.
    accepts, others = one.gate.accepts, other.gate.accepts
    if (one.choose, accepts.several_volumes) != (other.choose, others.several_volumes):
        return True
    if (one.title, one.use, one.align, one.if_missing) != (
        other.title,
        other.use,
        other.align,
        other.if_missing,
    ):
        return True
    if (one.selector, one.prefer) == (other.selector, other.prefer):
        return False
    changed = [
        each
        for pair in (
            *zip(one.selector, other.selector, strict=True),
            *zip(one.prefer, other.prefer, strict=True),
        )
        if pair[0] != pair[1]
        for each in pair
    ]
    return any(
        _decided(one, attributes) != _decided(other, attributes)
        for attributes in _series_like(changed)
    )


def _decided(role: Role, attributes: dict[str, object]) -> object:
    """What is decided and said of a series."""
    outcomes = evaluate(role.selector, attributes)
    reasons = [preference.why for preference in role.prefer]
    return role.title, outcomes, rank(role.prefer, attributes), reasons


def _series_like(rules: Iterable[Condition | Preference]) -> list[dict[str, object]]:
    """Series that have what rules ask for, have a little more or less of it, or lack it."""
    rules = list(rules)
    values: set[object] = {"", "something else", 1e9}
    for rule in rules:
        values |= set(_asked_for(rule))
    attributes = {rule.attribute for rule in rules}
    return [{attribute: value} for attribute in attributes for value in values]


def _asked_for(rule: Condition | Preference) -> Iterable[object]:
    if isinstance(rule, Preference):
        yield from (*(rule.first or ()), 1.0, 2.0)
        return
    yield from (*(rule.any_of or ()), *(rule.none_of or ()))
    for end in (rule.at_least, rule.at_most):
        if end is not None:
            yield from (end - 0.01, end, end + 0.01)
    for pattern in (rule.matches, rule.not_matches, rule.words_match, rule.words_do_not_match):
        # Whatever stands between the signs of a pattern is a text that it may look for.
        yield from re.split(r"[^A-Za-z0-9 ]+", pattern or "")
        yield from re.split(r"\\b|[^A-Za-z0-9 ]+", pattern or "")
