"""Which model wants which series, and why: stages *select* and *gate*.

Pure functions over headers. Every series of a revision gets a verdict for every model, or becomes
an input of a job. The order of questions, the first answer counts:

1. Did Axial make it?                        not_wanted / own_result
2. Does it hold images?                      not_wanted / not_an_image
3. Is it a localizer?                        refused / localizer
4. Do the selector's conditions hold?        not_wanted / attribute_mismatch
5. Has every image a UID of its own?         refused / conflicting_images
6. Is it clear which of its volumes is meant? refused / several_volumes_fit, incomplete_volume
7. Does its geometry pass the gate?          refused / ...
8. Is it the best of those that are left?    not_wanted / better_series_chosen

A series that holds several volumes is split, and the conditions are put to each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.uid import UID

from models.manifest import Choose, Manifest, Role, evaluate, rank
from models.manifest.attributes import SELECTOR_ATTRIBUTES
from services.common.fates import Fate, Refusal, Value, Verdict
from services.common.headers import AttributeValue, InstanceHeader
from services.common.identity import hashed, sha256_hex
from services.imaging import (
    SeriesGeometry,
    SourceVolume,
    SplitSeries,
    examine_series,
    images_of,
    is_localizer,
    limits_of,
    split_volumes,
)
from services.orchestrator.errors import OrchestratorError
from services.orchestrator.revision import SeriesOfRevision

# Makes single planes of a series' instances: `open_stored_images` of the study store.
OpenImages = Callable[[Sequence[InstanceHeader]], Sequence[InstanceHeader] | Verdict]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A series (or one volume of it) that a model reads in a role, with its proven geometry.

    Attributes:
        attributes: of the volume, by which series are compared.
        left_out: a sentence about images of the series that are no slices; empty without any.
    """

    role: str
    series: SeriesOfRevision
    geometry: SeriesGeometry
    attributes: Mapping[str, AttributeValue]
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class ModelSelection:
    """What one model makes of a revision.

    Attributes:
        selections: one job's inputs each.
        verdicts: series UID -> why it is no input; together with the selections, every series.
    """

    model: Manifest
    selections: tuple[Chosen, ...]
    verdicts: Mapping[str, Verdict]


def as_single_planes(headers: Sequence[InstanceHeader]) -> Sequence[InstanceHeader]:
    """The `OpenImages` of series in which every instance is one plane."""
    return headers


def select_series(
    manifest: Manifest,
    series: Sequence[SeriesOfRevision],
    open_images: OpenImages = as_single_planes,
) -> ModelSelection:
    """Decides for one model what becomes of every series.

    Args:
        open_images: is asked for a series that passed what its headers alone can tell.

    Raises:
        OrchestratorError: the model has several roles, which this version does not join.
    """
    if len(manifest.roles) != 1:
        raise OrchestratorError(
            f"{manifest.identity.name} has {len(manifest.roles)} roles; this version joins one."
        )
    (role_name, role), *_ = manifest.roles.items()
    verdicts: dict[str, Verdict] = {}
    fitting: list[Chosen] = []
    for candidate in series:
        answer = _consider(manifest, role_name, candidate, open_images)
        if isinstance(answer, Verdict):
            verdicts[candidate.series_uid] = answer
        else:
            fitting.append(answer)
    chosen = _choose(manifest, role, fitting, verdicts)
    return ModelSelection(manifest, tuple(chosen), verdicts)


def selection_digest(chosen: Chosen) -> str:
    """SHA-256 over a job's inputs: role, instances in slice order and their bytes."""
    places = [(plane.sop_instance_uid, plane.frame or 0) for plane in chosen.geometry.planes]
    return digest_of(chosen.role, chosen.series, places)


def digest_of(role: str, series: SeriesOfRevision, places: Sequence[tuple[str, int]]) -> str:
    """The same of a selection as it is written down.

    Args:
        places: SOP instance UID and frame (0 where the instance is one slice), in slice order.
    """
    lines = [role, series.series_uid]
    for uid, frame in places:
        lines.append(f"{uid} {series.data_digests[uid]}{f' {frame}' if frame else ''}")
    return sha256_hex("\n".join(lines).encode())


def _consider(
    manifest: Manifest, role_name: str, candidate: SeriesOfRevision, open_images: OpenImages
) -> Chosen | Verdict:
    if candidate.made_by_axial:
        return Verdict("own_result")
    modality = candidate.headers[0].text("Modality") or "no modality"
    if not any(header.is_image for header in candidate.headers) or modality == "SEG":
        return Verdict("not_an_image", {"content": _objects(candidate.headers)})
    found = images_of(candidate.headers)
    if is_localizer(found.headers):
        return Refusal("localizer")
    model, role = manifest.identity.title, manifest.roles[role_name]
    images = open_images(found.headers)
    if isinstance(images, Verdict):
        return _mismatch(model, role, candidate.attributes) or images
    split = split_volumes(images)
    volume = _wanted_volume(model, role, candidate, split)
    if candidate.doubled_uids and not _is_not_wanted(volume):
        return _conflicting(candidate)
    if isinstance(volume, Verdict):
        return volume
    geometry = examine_series(volume.images, limits_of(role, model))
    if isinstance(geometry, Refusal):
        return geometry
    attributes = _attributes_of(candidate, volume)
    return Chosen(role_name, candidate, geometry, attributes, found.left_out)


def _objects(headers: Sequence[InstanceHeader]) -> str:
    """The kinds of objects by the names of their SOP classes (PS3.6 A): "Raw Data objects"."""
    names = sorted({UID(header.sop_class_uid).name for header in headers})
    return f"{' and '.join(name.removesuffix(' Storage') for name in names)} objects"


def _is_not_wanted(answer: SourceVolume | Verdict) -> bool:
    return isinstance(answer, Verdict) and answer.fate is Fate.NOT_WANTED


def _conflicting(candidate: SeriesOfRevision) -> Refusal:
    doubled = candidate.doubled_uids
    numbers = [
        each.text("InstanceNumber")
        for each in candidate.headers
        if each.sop_instance_uid == doubled[0]
    ]
    image = next(filter(None, numbers), hashed(doubled[0]))
    return Refusal("conflicting_images", {"count": len(doubled), "instance": image})


def _wanted_volume(
    model: str, role: Role, candidate: SeriesOfRevision, split: SplitSeries
) -> SourceVolume | Verdict:
    """The one volume of a series that the role wants."""
    attributes = [_attributes_of(candidate, volume) for volume in split.volumes]
    mismatches = [
        _mismatch(model, role, each, volume.varying)
        for each, volume in zip(attributes, split.volumes, strict=True)
    ]
    fitting = [n for n, mismatch in enumerate(mismatches) if mismatch is None]
    if not fitting:
        return next(mismatch for mismatch in mismatches if mismatch is not None)
    volumes = len(split.volumes)
    best_rank = min(rank(role.prefer, attributes[n]) for n in fitting)
    best = [n for n in fitting if rank(role.prefer, attributes[n]) == best_rank]
    if len(best) > 1 and role.gate.accepts.several_volumes == "refuse":
        values: dict[str, Value] = {"model": model, "volumes": volumes, "fitting": len(best)}
        return Refusal("several_volumes_fit", {**values, "attribute": split.told_by})
    chosen = split.volumes[best[0]]
    if not chosen.whole:
        slices = len(chosen.images)
        values = {"volumes": volumes, "slices": slices, "expected": chosen.positions}
        return Refusal("incomplete_volume", values)
    return chosen


def _attributes_of(
    candidate: SeriesOfRevision, volume: SourceVolume
) -> Mapping[str, AttributeValue]:
    """What a volume says of itself; of the series only what no selector asks about."""
    of_series = {k: v for k, v in candidate.attributes.items() if k not in SELECTOR_ATTRIBUTES}
    return {**of_series, **volume.attributes}


def _mismatch(
    model: str,
    role: Role,
    attributes: Mapping[str, AttributeValue],
    varying: Mapping[str, Sequence[AttributeValue]] = MappingProxyType({}),
) -> Verdict | None:
    """The first condition that does not hold; of what differs within a volume, for each value."""
    for condition in role.selector:
        name = condition.attribute
        for value in varying.get(name, [attributes.get(name)]):
            (outcome,) = evaluate([condition], {name: value})
            if not outcome.passed:
                values: dict[str, Value] = {
                    "model": model,
                    "because": outcome.sentence.rstrip("."),
                    "attribute": outcome.attribute,
                    "found": outcome.found,
                    "expectation": outcome.expectation,
                }
                return Verdict("attribute_mismatch", values)
    return None


def _choose(
    manifest: Manifest, role: Role, fitting: list[Chosen], verdicts: dict[str, Verdict]
) -> list[Chosen]:
    if role.choose is Choose.EVERY or len(fitting) <= 1:
        return fitting
    # The series UID as the last key makes the choice the same at every repetition.
    ordered = sorted(fitting, key=lambda item: item.series.series_uid)
    ordered.sort(key=_later, reverse=True)
    ordered.sort(key=lambda item: (rank(role.prefer, item.attributes), not _is_normalised(item)))
    best = ordered[0]
    for other in ordered[1:]:
        verdicts[other.series.series_uid] = Verdict(
            "better_series_chosen",
            {
                "model": manifest.identity.title,
                "chosen_series": str(best.series.attributes.get("SeriesNumber") or "?"),
                "chosen_series_uid": best.series.series_uid,
                "why": _why_better(role, best, other),
            },
        )
    return [best]


def _why_better(role: Role, best: Chosen, other: Chosen) -> str:
    better = rank(role.prefer, best.attributes)
    worse = rank(role.prefer, other.attributes)
    for preference, ours, theirs in zip(role.prefer, better, worse, strict=True):
        if ours != theirs:
            return preference.why
    if _is_normalised(best) != _is_normalised(other):
        return "both suit equally well, and it is the one whose intensities were normalised"
    if _later(best) != _later(other):
        return "both suit equally well, and it is the later one"
    return "both suit equally well, and the first by identifier is taken"


def _is_normalised(item: Chosen) -> bool:
    """Whether the scanner evened out the coils' sensitivity: NORM in ImageType."""
    value = item.attributes.get("ImageType")
    kinds = value if isinstance(value, list) else [value or ""]
    return "NORM" in (kind.upper() for kind in kinds)


def _later(item: Chosen) -> tuple[str, str, float]:
    """When a series was made: its date and time, and its number, by which scanners count."""
    date, time, number = (
        str(item.series.attributes.get(keyword) or "")
        for keyword in ("SeriesDate", "SeriesTime", "SeriesNumber")
    )
    try:
        return date, time, float(number)
    except ValueError:
        return date, time, 0.0
