"""What the models could work on at present, before anything is frozen.

The same selection and the same gate as of a revision (`stages.select_stage`), over everything that
is registered of a study. Nothing is written down: the answer is for the listener, which decides
when a study is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.manifest import Choose, Manifest
from services.common.fates import Fate, Verdict
from services.common.telemetry import get_logger
from services.orchestrator.considering import OpenImages, consider
from services.orchestrator.offering import Unavailable, offers_for
from services.orchestrator.revision import SeriesOfRevision, read_registered
from services.orchestrator.selection import ModelSelection, select_series
from services.orchestrator.stage_context import StageContext, opened_once

# Refused for what it is, not for what is missing.
_NEVER_BETTER = frozenset({"localizer"})

_log = get_logger("orchestrator")


@dataclass(frozen=True, slots=True)
class ReadySelection:
    """The inputs of a job that could begin: geometrically whole, of a model that is built.

    Attributes:
        rivals: series that may turn out to suit the model better when more of them is there: it
            reads one of a study, and they fit what it asks of their attributes.
    """

    model_name: str
    series_uids: tuple[str, ...]
    rivals: tuple[str, ...] = ()


def examine_study(context: StageContext, study_uid: str) -> list[ReadySelection]:
    """The selections of a study that passed the gate; costs a look at all of its kept headers.

    A model that is not built is not ready; the others are asked all the same.
    Nor is a series that cannot be read: whoever asks does not wait for a disk, and asks again.
    """
    series = read_registered(context.engine, study_uid)
    open_images = opened_once(context, attempts=1)
    ready: list[ReadySelection] = []
    for offer in offers_for(context.engine, context.settings, context.manifests, study_uid):
        if isinstance(offer, Unavailable):
            _log.info("model_not_ready", model=offer.model, problem=offer.problem)
            continue
        selection = select_series(offer.manifest, series, open_images)
        rivals = _rivals(offer.manifest, selection, series, open_images)
        ready += [
            ReadySelection(offer.model, one.series_uids(), rivals) for one in selection.selections
        ]
    return ready


def _rivals(
    manifest: Manifest,
    selection: ModelSelection,
    series: Sequence[SeriesOfRevision],
    open_images: OpenImages,
) -> tuple[str, ...]:
    if all(role.choose is not Choose.BEST for role in manifest.roles.values()):
        return ()
    whole = _whatever_their_number(manifest)
    of_uid = {each.series_uid: each for each in series}
    # What is refused for its geometry may be a part; what is not wanted never will be, unless it is
    # for its number of images.
    return tuple(
        uid
        for uid, verdict in selection.verdicts.items()
        if verdict.reason == "better_series_chosen"
        or (verdict.fate is not Fate.NOT_WANTED and verdict.reason not in _NEVER_BETTER)
        or (verdict.reason == "attribute_mismatch" and _fits(whole, of_uid[uid], open_images))
    )


def _whatever_their_number(manifest: Manifest) -> Manifest:
    """The model without what it asks at least of a series' number of images."""
    roles = {
        name: role.model_copy(
            update={
                "selector": tuple(
                    each
                    for each in role.selector
                    if each.attribute != "NumberOfInstances" or each.at_least is None
                )
            }
        )
        for name, role in manifest.roles.items()
    }
    return manifest.model_copy(update={"roles": roles})


def _fits(manifest: Manifest, candidate: SeriesOfRevision, open_images: OpenImages) -> bool:
    answers = [consider(manifest, role, candidate, open_images) for role in manifest.roles]
    return any(
        not isinstance(answer, Verdict)
        or (answer.fate is not Fate.NOT_WANTED and answer.reason not in _NEVER_BETTER)
        for answer in answers
    )
