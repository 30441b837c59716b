"""What the models could work on at present, before anything is frozen.

The same selection and the same gate as of a revision (`stages.select_stage`), over everything that
is registered of a study. Nothing is written down: the answer is for the listener, which decides
when a study is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.manifest import ModelError, load_catalogue
from services.common.telemetry import get_logger
from services.orchestrator.errors import OrchestratorError
from services.orchestrator.revision import read_registered
from services.orchestrator.selection import select_series
from services.orchestrator.stages import StageContext, model_digest, opened_once

_log = get_logger("orchestrator")


@dataclass(frozen=True, slots=True)
class ReadySelection:
    """The inputs of a job that could begin: geometrically whole, of a model that is built."""

    model_name: str
    series_uids: tuple[str, ...]


def examine_study(context: StageContext, study_uid: str) -> list[ReadySelection]:
    """The selections of a study that passed the gate; costs a look at all of its kept headers.

    A model that is not built, or cannot choose, is not ready; the others are asked all the same.
    Nor is a series that cannot be read: whoever asks does not wait for a disk, and asks again.
    """
    series = read_registered(context.engine, study_uid)
    open_images = opened_once(context, attempts=1)
    ready: list[ReadySelection] = []
    for manifest in load_catalogue(context.settings.catalogue_dir):
        name = manifest.identity.name
        try:
            model_digest(context.settings, manifest)
            selection = select_series(manifest, series, open_images)
        except (ModelError, OrchestratorError) as error:
            _log.info("model_not_ready", model=name, problem=str(error))
            continue
        ready += [ReadySelection(name, (one.series.series_uid,)) for one in selection.selections]
    return ready
