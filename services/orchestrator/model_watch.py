"""Whether the models answer, and which builds are served because they do.

Triton calls a model ready whose process has died. So a model is asked a question that costs it
nothing (a request for another build, which it declines at once); only an answer counts. What
answers is given studies, what the builder wants no more is drained and unloaded (`deployments`).
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from models.manifest import ModelError, ServedBuild, UnreadableServed, served_builds, served_file
from services.common.database import utc_now
from services.common.errors import AxialError
from services.common.lifecycle import DeploymentState
from services.common.manifests import StoredManifests
from services.common.settings import TritonSettings
from services.common.telemetry import get_logger
from services.orchestrator.deployments import (
    Deployment,
    drained,
    needs_registering,
    note_answer,
    note_trouble,
    read_deployments,
    register,
    retire,
)
from services.orchestrator.inference import InferenceClient
from services.orchestrator.periodic import PeriodicThread

_log = get_logger("orchestrator")

LOOK_EVERY_S = 10.0
# Builds appear now and then; a look for them costs a few files' heads.
REGISTER_EVERY_S = 1.0
# A build that could not be loaded while another one serves is tried again after this long: what
# was missing (memory, a file) may be there.
FAILED_RESTS = dt.timedelta(minutes=10)
_MANIFEST = "1/manifest.yaml"


class ModelWatch(PeriodicThread):
    """Asks the models, and registers what the builder wants served.

    Args:
        engine: the database.
        inference: the connection to Triton.
        manifests: where the builds' manifests are kept.
        settings: name the repository and the target.
        look_every_s: how often the models are asked.
    """

    def __init__(
        self,
        engine: Engine,
        inference: InferenceClient,
        manifests: StoredManifests,
        settings: TritonSettings,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        round_s = min(REGISTER_EVERY_S, look_every_s)
        super().__init__("model-watch", round_s, failed="models_not_asked")
        self._engine = engine
        self._inference = inference
        self._manifests = manifests
        self._settings = settings
        self._look_every_s = look_every_s
        self._next_look = 0.0
        self._registered: dict[str, int] = {}
        # Written by the thread alone: of each model, what keeps it from working.
        self._found: dict[str, str | None] = {}
        self._unreadable: tuple[str, ...] = ()
        self._looked = False

    def problems(self) -> list[str]:
        """What keeps every model from working; empty as soon as one of them works."""
        if not self._looked:
            return ["The models have not been asked yet."]
        if not self._found:
            return ["No build of a model is served. Run: axial models build", *self._unreadable]
        troubles = self._troubles()
        return troubles if len(troubles) == len(self._found) else []

    def remarks(self) -> list[str]:
        """What keeps single models from working while others work."""
        troubles = self._troubles()
        return [*(troubles if len(troubles) < len(self._found) else []), *self._unreadable]

    def register(self) -> bool:
        """Registers what the builder wants served; returns whether anything changed."""
        target = self._settings.target
        wanted: list[ServedBuild] = []
        unreadable: dict[str, str] = {}
        for each in served_builds(self._settings.repository, target):
            if isinstance(each, UnreadableServed):
                unreadable[each.model] = f"{each.file.name}: {each.problem}"
            else:
                wanted.append(each)
        self._unreadable = tuple(unreadable.values())
        known = read_deployments(self._engine, target)
        if not needs_registering(known, wanted, unreadable):
            return False
        for build in wanted:
            text = (build.folder / _MANIFEST).read_text(encoding="utf-8")
            self._manifests.put(build.digest, text)
        register(self._engine, target, wanted, unreadable)
        return True

    def look(self) -> None:
        """Asks every model once, and loads the models again that do not answer."""
        target = self._settings.target
        found: dict[str, str | None] = {}
        for each in _counting(read_deployments(self._engine, target)):
            found[each.triton_name] = each.problem if each.set_aside else self._ask(each.deployment)
        for model, trouble in found.items():
            if trouble != self._found.get(model):
                _log.warning("model_watched", model=model, problem=trouble or "answers again")
        self._found = found
        self._looked = True
        for deployment in drained(self._engine, target):
            self._inference.unload(deployment.triton_name)
            retire(self._engine, deployment)

    def _troubles(self) -> list[str]:
        # What a job ran into since the last round is known to the connection already.
        in_jobs = {k: v for k, v in self._inference.troubles().items() if k in self._found}
        known = {**self._found, **in_jobs}
        return [trouble for trouble in known.values() if trouble is not None]

    def _ask(self, deployment: Deployment) -> str | None:
        name = deployment.triton_name
        try:
            roles = tuple(self._manifests.of(deployment.digest).roles)
            trouble = self._inference.look_after(name, roles)
        except (AxialError, ModelError) as error:
            trouble = f"Model {name}: {error}"
        if trouble is None:
            note_answer(self._engine, deployment)
        else:
            cannot_be_loaded = self._inference.problem() is None
            note_trouble(self._engine, deployment, trouble, failed=cannot_be_loaded)
        return trouble

    def _begin(self) -> None:
        # Before the first study is selected, so that a build which waits is known.
        self.register()

    def _round(self) -> None:
        # Between two looks a change of the builder's files is noticed, at the price of a glance.
        said = self._said()
        if said == self._registered and time.monotonic() < self._next_look:
            return
        try:
            self.register()
            self._registered = said
            self.look()
        finally:
            self._next_look = time.monotonic() + self._look_every_s

    def _said(self) -> dict[str, int]:
        """When each file that says what is to be served was last written."""
        settings = self._settings
        folder = served_file(settings.repository, settings.target, "any").parent
        return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.json")}


@dataclass(frozen=True, slots=True)
class _Counting:
    """A deployment by which a model is judged.

    Attributes:
        set_aside: it failed while another build serves the model, and is not asked for now.
    """

    deployment: Deployment
    set_aside: bool

    @property
    def triton_name(self) -> str:
        return self.deployment.triton_name

    @property
    def problem(self) -> str:
        return f"Model {self.triton_name} is not served: {self.deployment.problem}"


def _counting(deployments: Sequence[Deployment]) -> list[_Counting]:
    served = {each.model for each in deployments if each.state is DeploymentState.SERVING}
    lately = utc_now() - FAILED_RESTS
    return [
        _Counting(
            each,
            each.state is DeploymentState.FAILED
            and each.model in served
            and each.changed_at > lately,
        )
        for each in deployments
        if each.state is not DeploymentState.DRAINING
    ]
