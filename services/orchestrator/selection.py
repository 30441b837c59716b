"""Which model wants which series, and why: stages *select* and *gate*.

Pure functions over headers. Every series of a revision gets a verdict for every model, or becomes
an input of a job. Each series is considered for each role (`considering`); of those that fit, the
joint choice over all roles is made (`joining`). What fits and is not chosen is told by what it
was left behind: a better series, or a role for which the study holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.manifest import Choose, Manifest, Role, aligns_of, frame_of, rank
from services.common.fates import Fate, Verdict
from services.common.headers import codes_of
from services.common.identity import sha256_hex
from services.common.sentences import Value
from services.orchestrator.considering import Chosen, OpenImages, as_single_planes, consider
from services.orchestrator.joining import (
    MAX_ASSIGNMENTS,
    Candidate,
    Joint,
    RoleCandidates,
    distinct,
    frames_that_meet,
    join,
)
from services.orchestrator.revision import SeriesOfRevision

# What a role of a selection is made of: SOP instance UID and frame (0 where the instance is one
# slice), in slice order.
Places = Sequence[tuple[str, int]]
# SOP instance UID -> digest of its data.
Digests = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """The volumes chosen for the roles of one job.

    Attributes:
        inputs: role -> the volume read in it, in the order of the manifest.
    """

    inputs: Mapping[str, Chosen]

    def series_uids(self) -> tuple[str, ...]:
        """The series, each once, in the order of the roles."""
        return tuple(dict.fromkeys(chosen.series.series_uid for chosen in self.inputs.values()))


@dataclass(frozen=True, slots=True)
class ModelSelection:
    """What one model makes of a revision.

    Attributes:
        model_name: the model.
        manifest: of the build that is to work; None where there is none, and no selections.
        selections: one job's inputs each.
        verdicts: series UID -> why the series is no input; together with the selections, every
            series.
    """

    model_name: str
    manifest: Manifest | None
    selections: tuple[Selection, ...]
    verdicts: Mapping[str, Verdict]


def select_series(
    manifest: Manifest,
    series: Sequence[SeriesOfRevision],
    open_images: OpenImages = as_single_planes,
) -> ModelSelection:
    """Decides for one model what becomes of every series.

    Args:
        manifest: the model.
        series: all of a revision.
        open_images: is asked for a series that passed what its headers alone can tell.
    """
    fitting: dict[str, list[Chosen]] = {role: [] for role in manifest.roles}
    verdicts: dict[str, Verdict] = {}
    for candidate in series:
        for role in manifest.roles:
            answer = consider(manifest, role, candidate, open_images)
            if isinstance(answer, Verdict):
                _keep_nearest(verdicts, candidate.series_uid, answer)
            else:
                fitting[role].append(answer)
    ordered = {
        role: sorted(found, key=_order_of(manifest.roles[role])) for role, found in fitting.items()
    }
    joint = _join(manifest, ordered)
    selections = tuple(_selection(manifest, each) for each in joint.assignments)
    for chosen in (one for selection in selections for one in selection.inputs.values()):
        verdicts.pop(chosen.series.series_uid, None)
    selected = {uid for selection in selections for uid in selection.series_uids()}
    for role, found in ordered.items():
        for left in found:
            if left.series.series_uid not in selected:
                verdicts[left.series.series_uid] = _left(manifest, role, left, selections, joint)
    return ModelSelection(manifest.identity.name, manifest, selections, verdicts)


def selection_digest(selection: Selection) -> str:
    """SHA-256 over a job's inputs: roles, instances in slice order and their bytes."""
    return digest_of(
        {
            role: (
                chosen.series.series_uid,
                [(plane.sop_instance_uid, plane.frame or 0) for plane in chosen.geometry.planes],
            )
            for role, chosen in selection.inputs.items()
        },
        {
            uid: digest
            for chosen in selection.inputs.values()
            for uid, digest in chosen.series.data_digests.items()
        },
    )


def digest_of(inputs: Mapping[str, tuple[str, Places]], digests: Digests) -> str:
    """`selection_digest` of a selection as the database keeps it.

    A mapping: in which order the roles are given decides nothing.

    Args:
        inputs: role -> its series and places.
        digests: of every instance among the places.
    """
    lines: list[str] = []
    for role, (series_uid, places) in sorted(inputs.items()):
        lines += [role, series_uid]
        lines += [f"{uid} {digests[uid]}{f' {frame}' if frame else ''}" for uid, frame in places]
    return sha256_hex("\n".join(lines).encode())


def _keep_nearest(verdicts: dict[str, Verdict], series_uid: str, verdict: Verdict) -> None:
    """Of several roles' verdicts about a series, the one that says most is kept.

    A refusal came further than what a role does not want; else the first role's counts.
    """
    kept = verdicts.get(series_uid)
    if kept is None or (kept.fate is Fate.NOT_WANTED and verdict.fate is not Fate.NOT_WANTED):
        verdicts[series_uid] = verdict


def _join(manifest: Manifest, ordered: Mapping[str, Sequence[Chosen]]) -> Joint[Chosen]:
    # The grid's role first: the labels lie on what it reads.
    names = sorted(manifest.roles, key=lambda role: role != manifest.grid_role)
    roles = [
        RoleCandidates(
            role,
            [_candidate(chosen) for chosen in ordered[role]],
            every=manifest.roles[role].choose is Choose.EVERY,
        )
        for role in names
    ]
    aligns = aligns_of(manifest.roles)
    frames = {role: frame_of(role, aligns) for role in manifest.roles}
    return join(roles, [distinct, frames_that_meet(frames)])


def _candidate(chosen: Chosen) -> Candidate[Chosen]:
    return Candidate(
        chosen.series.series_uid,
        chosen.volume,
        chosen.geometry.frame_of_reference_uid,
        chosen,
    )


def _selection(manifest: Manifest, assignment: Mapping[str, Candidate[Chosen]]) -> Selection:
    return Selection({role: assignment[role].item for role in manifest.roles})


def _order_of(role: Role) -> Callable[[Chosen], tuple[Any, ...]]:
    """A role's order of preference as a key to sort by; the smallest is the best."""

    def key(item: Chosen) -> tuple[Any, ...]:
        # The series UID as the last key makes the choice the same at every repetition.
        return (
            rank(role.prefer, item.attributes),
            not _is_normalised(item),
            _Descending(_later(item)),
            item.series.series_uid,
        )

    return key


@dataclass(frozen=True, slots=True)
class _Descending:
    """Turns an order around where a sign cannot: of text."""

    value: tuple[str, str, float]

    def __lt__(self, other: _Descending) -> bool:
        return other.value < self.value


def _left(
    manifest: Manifest,
    role: str,
    left: Chosen,
    selections: Sequence[Selection],
    joint: Joint[Chosen],
) -> Verdict:
    """Why a volume that fits a role is no input."""
    model, wanted = manifest.identity.title, manifest.roles[role]
    if (role, left.series.series_uid, left.volume) in joint.untried:
        limit: dict[str, Value] = {"model": model, "role": wanted.title, "limit": MAX_ASSIGNMENTS}
        return Verdict("too_many_choices", limit)
    if joint.lacking is not None or wanted.choose is Choose.EVERY:
        others = [name for name in manifest.roles if name != role]
        lacking = [joint.lacking] if joint.lacking not in (None, role) else others
        titles = " and ".join(manifest.roles[each].title for each in lacking)
        values = {"model": model, "role": wanted.title, "lacking": titles}
        return Verdict("role_without_series", values)
    best = selections[0].inputs[role]
    order = _order_of(wanted)
    fits_better_alone = order(left) < order(best)
    return Verdict(
        "better_series_chosen",
        {
            "model": model,
            "chosen_series": str(best.series.attributes.get("SeriesNumber") or "?"),
            "chosen_series_uid": best.series.series_uid,
            "why": "it goes together with the series of the other inputs"
            if fits_better_alone
            else _why_better(wanted, best, left),
        },
    )


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
    return "NORM" in codes_of(item.attributes.get("ImageType"))


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
