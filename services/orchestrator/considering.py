"""What one model makes of one series in one role: questions, the first answer counts.

1. Did Axial make it?                        not_wanted / own_result
2. Does it hold images?                      not_wanted / not_an_image
3. Is it a localizer?                        refused / localizer
4. Do the selector's conditions hold?        not_wanted / attribute_mismatch
5. Has every image a UID of its own?         refused / conflicting_images
6. Is it clear which of its volumes is meant? refused / several_volumes_fit, incomplete_volume
7. Does its geometry pass the gate?          refused / ...

A series that holds several volumes is split, and the conditions are put to each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.uid import UID

from models.manifest import Manifest, Role, evaluate, rank
from models.manifest.attributes import SELECTOR_ATTRIBUTES
from services.common.fates import Fate, Refusal, Verdict
from services.common.headers import AttributeValue, InstanceHeader
from services.common.identity import hashed
from services.common.sentences import Value, keywords_value
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
from services.imaging.kinds import which
from services.orchestrator.revision import SeriesOfRevision

# Makes single planes of a series' instances: `open_stored_images` of the study store.
OpenImages = Callable[[Sequence[InstanceHeader]], Sequence[InstanceHeader] | Verdict]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A volume of a series that a model reads in a role, with its proven geometry.

    Attributes:
        volume: which of the volumes that the series holds, from 1.
        attributes: of the volume, by which series are compared.
        left_out: a sentence about images of the series that are no slices; empty without any.
    """

    role: str
    series: SeriesOfRevision
    volume: int
    geometry: SeriesGeometry
    attributes: Mapping[str, AttributeValue]
    left_out: str = ""


def as_single_planes(headers: Sequence[InstanceHeader]) -> Sequence[InstanceHeader]:
    """The `OpenImages` of series in which every instance is one plane."""
    return headers


def consider(
    manifest: Manifest, role_name: str, candidate: SeriesOfRevision, open_images: OpenImages
) -> Chosen | Verdict:
    """The volume of a series that fits a role, or why none does.

    Args:
        manifest: the model.
        role_name: the role.
        candidate: the series.
        open_images: is asked for a series that passed what its headers alone can tell.
    """
    if candidate.made_by_axial:
        return Verdict("own_result")
    (modality, *_) = candidate.headers[0].codes("Modality") or ("",)
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
    place = _wanted_volume(model, role, candidate, split)
    if candidate.doubled_uids and not _is_not_wanted(place):
        return _conflicting(candidate)
    if isinstance(place, Verdict):
        return place
    volume = split.volumes[place]
    geometry = examine_series(volume.images, limits_of(role, model))
    if isinstance(geometry, Refusal):
        return geometry
    attributes = _attributes_of(candidate, volume)
    return Chosen(role_name, candidate, place + 1, geometry, attributes, found.left_out)


def _objects(headers: Sequence[InstanceHeader]) -> str:
    """The kinds of objects by the names of their SOP classes (PS3.6 A): "Raw Data objects"."""
    names = sorted({UID(header.sop_class_uid).name for header in headers})
    return f"{' and '.join(name.removesuffix(' Storage') for name in names)} objects"


def _is_not_wanted(answer: int | Verdict) -> bool:
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
) -> int | Verdict:
    """The place of the one volume of a series that the role wants."""
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
        return Refusal(
            "several_volumes_fit", {**values, "attribute": keywords_value(split.told_by)}
        )
    chosen = split.volumes[best[0]]
    if not chosen.whole:
        slices = len(chosen.images)
        images = [image for volume in split.volumes for image in volume.images]
        own = {image.sop_instance_uid for image in chosen.images}
        odd = which(images, [image.sop_instance_uid in own for image in images])
        values = {"volumes": volumes, "slices": slices, "expected": chosen.positions}
        return Refusal("incomplete_volume", {**values, "odd": odd})
    return best[0]


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
