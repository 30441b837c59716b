"""Whether the models answer: each is asked now and then, and one that does not is loaded again.

Triton calls a model ready whose process has died. So a model is asked a question that costs it
nothing (a request for another build, which it declines at once); only an answer counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from services.common.telemetry import get_logger
from services.orchestrator.errors import OrchestratorError
from services.orchestrator.inference import InferenceClient

_log = get_logger("orchestrator")

LOOK_EVERY_S = 10.0

# Model in Triton -> the roles that it has.
Served = Mapping[str, Sequence[str]]


class ModelWatch:
    """Asks the models; a context manager that owns its thread.

    Args:
        inference: the connection to Triton.
        served: which models there are to be; asked before every round.
        every_s: how often.
    """

    def __init__(
        self,
        inference: InferenceClient,
        served: Callable[[], Served],
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._inference = inference
        self._served = served
        self._every_s = every_s
        # Written by the thread alone.
        self._found: dict[str, str | None] = {}
        self._looked = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-watch", daemon=True)

    def __enter__(self) -> ModelWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def alive(self) -> bool:
        """Whether the models are being asked."""
        return self._thread.is_alive()

    def problems(self) -> list[str]:
        """What keeps every model from working; empty as soon as one of them works."""
        if not self._looked:
            return ["The models have not been asked yet."]
        if not self._found:
            return ["No model of the catalogue is built. Run: axial models build"]
        troubles = self._troubles()
        return troubles if len(troubles) == len(self._found) else []

    def remarks(self) -> list[str]:
        """What keeps single models from working while others work."""
        troubles = self._troubles()
        return troubles if len(troubles) < len(self._found) else []

    def look(self) -> None:
        """Asks every model once, and loads again what does not answer."""
        served = self._served()
        found = {model: self._ask(model, roles) for model, roles in served.items()}
        for model, trouble in found.items():
            if trouble != self._found.get(model):
                _log.warning("model_watched", model=model, problem=trouble or "answers again")
        self._found = found
        self._looked = True

    def _troubles(self) -> list[str]:
        # What a job ran into since the last round is known to the connection already.
        known = {**self._found, **self._inference.troubles()}
        return [trouble for trouble in known.values() if trouble is not None]

    def _ask(self, model: str, roles: Sequence[str]) -> str | None:
        try:
            return self._inference.look_after(model, roles)
        except OrchestratorError as error:
            return f"Model {model}: {error}"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:  # noqa: BLE001
                # A catalogue that cannot be read for a moment must not end the watch.
                _log.exception("models_not_asked")
            self._stop.wait(self._every_s)
