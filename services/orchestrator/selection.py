"""Which model wants which series, and why: stages *select* and *gate*.

Pure functions over headers. Every series of a revision gets a verdict for every model, or becomes
an input of a job. The order of questions, the first answer counts:

1. Did Axial make it?                        not_wanted / own_result
2. Does it hold images?                      not_wanted / not_an_image
3. Is it a localizer?                        refused / localizer
4. Do the selector's conditions hold?        not_wanted / attribute_mismatch
5. Does its geometry pass the gate?          refused / ...
6. Is it the best of those that are left?    not_wanted / better_series_chosen
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.manifest import Choose, Manifest, Role, evaluate, rank
from services.common.fates import Refusal, Value, Verdict
from services.common.identity import sha256_hex
from services.imaging import SeriesGeometry, examine_series, is_localizer, limits_of
from services.orchestrator.errors import OrchestratorError
from services.orchestrator.revision import SeriesOfRevision


@dataclass(frozen=True, slots=True)
class Chosen:
    """A series that a model reads in a role, with its proven geometry."""

    role: str
    series: SeriesOfRevision
    geometry: SeriesGeometry


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


def select_series(manifest: Manifest, series: Sequence[SeriesOfRevision]) -> ModelSelection:
    """Decides for one model what becomes of every series.

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
        answer = _consider(manifest, role, candidate)
        if isinstance(answer, Verdict):
            verdicts[candidate.series_uid] = answer
        else:
            fitting.append(Chosen(role_name, candidate, answer))
    chosen = _choose(manifest, role, fitting, verdicts)
    return ModelSelection(manifest, tuple(chosen), verdicts)


def selection_digest(chosen: Chosen) -> str:
    """SHA-256 over a job's inputs: role, instances in slice order and their bytes."""
    lines = [chosen.role, chosen.series.series_uid]
    for plane in chosen.geometry.planes:
        uid = plane.sop_instance_uid
        lines.append(f"{uid} {chosen.series.data_digests[uid]}")
    return sha256_hex("\n".join(lines).encode())


def _consider(
    manifest: Manifest, role: Role, candidate: SeriesOfRevision
) -> SeriesGeometry | Verdict:
    model = manifest.identity.title
    if candidate.made_by_axial:
        return Verdict("own_result")
    modality = candidate.headers[0].text("Modality") or "no modality"
    if not any(header.is_image for header in candidate.headers) or modality == "SEG":
        return Verdict("not_an_image", {"content": f"objects of kind {modality}"})
    if is_localizer(candidate.headers):
        return Refusal("localizer")
    for outcome in evaluate(role.selector, candidate.attributes):
        if not outcome.passed:
            values: dict[str, Value] = {
                "model": model,
                "because": outcome.sentence.rstrip("."),
                "attribute": outcome.attribute,
                "found": outcome.found,
                "expectation": outcome.expectation,
            }
            return Verdict("attribute_mismatch", values)
    return examine_series(candidate.headers, limits_of(role, model))


def _choose(
    manifest: Manifest, role: Role, fitting: list[Chosen], verdicts: dict[str, Verdict]
) -> list[Chosen]:
    if role.choose is Choose.EVERY or len(fitting) <= 1:
        return fitting
    # The series UID as the last key makes the choice the same at every repetition.
    ordered = sorted(
        fitting,
        key=lambda item: (rank(role.prefer, item.series.attributes), item.series.series_uid),
    )
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
    better = rank(role.prefer, best.series.attributes)
    worse = rank(role.prefer, other.series.attributes)
    for preference, ours, theirs in zip(role.prefer, better, worse, strict=True):
        if ours != theirs:
            return preference.why
    return "both suit equally well, and the first by identifier is taken"
