"""Models that died: found by a question that a living one declines at once, and loaded again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import tritonclient.grpc as triton
from axial.v1 import inference_pb2
from tritonclient.utils import InferenceServerException

from models.manifest import LABELS_TENSOR, volume_tensor_name
from services.common.settings import TritonSettings
from services.common.stub_regions import free_left_regions
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import MODELS_REVIVED
from services.orchestrator.errors import ModelDied, ModelUnavailable
from services.orchestrator.regions import CONTROL_DEADLINE_S
from services.orchestrator.triton_answers import explained, first_line, is_past_deadline, status_of
from services.orchestrator.triton_connection import ask

_log = get_logger("orchestrator")

# A model that is not at work declines a question within milliseconds.
ANSWERS_WITHIN_S = 5.0
# After a model died, so long is looked for the memory that it left.
_SWEPT_FOR_S = 60.0


class ModelReviver:
    """Which models of one client work, and the means to have one loaded again.

    Args:
        client: the library's client of Triton.
        settings: deadlines, and how volumes travel.
    """

    def __init__(self, client: triton.InferenceServerClient, settings: TritonSettings) -> None:
        self._client = client
        self._settings = settings
        # Written by whoever works with a model or asks it, under the lock.
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()
        self._troubles: dict[str, str] = {}
        self._reviving = threading.Lock()
        self._sweep_until = 0.0

    def troubles(self) -> Mapping[str, str]:
        """Models that were found not to answer and do not answer yet, each with a sentence."""
        with self._lock:
            return dict(self._troubles)

    def clear_trouble(self, model: str) -> None:
        """Notes that nothing is wrong with a model: it answered, or was unloaded."""
        self._say(model, None)

    @contextmanager
    def at_work(self, model: str) -> Generator[None]:
        """While this context is open, a job is with the model, and nobody disturbs the model."""
        with self._lock:
            self._under_way[model] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[model] -= 1

    def ensure_loaded(self, model: str) -> None:
        """Loads the model when it is not ready (explicit model control).

        Raises:
            ModelUnavailable: Triton does not answer, or cannot load the model.
        """
        try:
            if not self._client.is_model_ready(model, client_timeout=5.0):
                self._client.load_model(model, client_timeout=self._settings.load_deadline_s)
        except InferenceServerException as error:
            raise ModelUnavailable(f"{status_of(error)}: {first_line(error)}") from error

    def look_after(self, model: str, roles: Sequence[str]) -> str | None:
        """Asks a model for an answer, and loads the model again when it has died.

        A model that works, for us or for another worker, is not disturbed.

        Args:
            model: its name in Triton.
            roles: its inputs.

        Returns:
            What keeps the model from working, as a sentence; None when it works.

        Raises:
            ModelUnavailable: Triton does not answer, or cannot load the model.
        """
        self._sweep()
        if self._is_under_way(model):
            return self.troubles().get(model)
        self.ensure_loaded(model)
        answers = self._answers(model, roles)
        if answers is False:
            self.revive(model, roles)
        elif answers:
            self._say(model, None)
        return self.troubles().get(model)

    def revive(self, model: str, roles: Sequence[str]) -> None:
        """Unloads and loads a model that has died, or hangs; a model that answers is left alone.

        Triton waits for ever for the process that is gone; the new process does not wait for that.
        `troubles` names a model that cannot be loaded.

        Args:
            model: its name in Triton.
            roles: its inputs.
        """
        with self._reviving:
            try:
                if self._answers(model, roles):
                    self._say(model, None)
                    return
                self._say(model, f"Model {model} does not answer; it is being loaded again.")
                _log.warning("model_died", model=model)
                self._client.unload_model(model, client_timeout=CONTROL_DEADLINE_S)
                self._client.load_model(model, client_timeout=self._settings.load_deadline_s)
                if self._answers(model, roles) is False:
                    self._say(model, f"Model {model} was loaded again and died again.")
                    return
            except InferenceServerException as error:
                self._say(model, f"Model {model} cannot be loaded again: {first_line(error)}.")
                return
            except ModelUnavailable as error:
                self._say(model, f"Model {model} does not answer: {error}.")
                return
            self._say(model, None)
            MODELS_REVIVED.labels(model).inc()
            _log.warning("model_revived", model=model)
            self._sweep_until = time.monotonic() + _SWEPT_FOR_S
            self._sweep()

    def is_at_work(self) -> bool:
        """Whether a job of ours is with any model."""
        with self._lock:
            return any(self._under_way.values())

    def _is_under_way(self, model: str) -> bool:
        with self._lock:
            return self._under_way[model] > 0

    def _answers(self, model: str, roles: Sequence[str]) -> bool | None:
        """Whether a model answers: True, False when it has died, None when it may be at work.

        Raises:
            ModelUnavailable: Triton does not answer, or the model is not loaded.
        """
        inputs: list[triton.InferInput] = []
        for role in roles:
            tensor = triton.InferInput(volume_tensor_name(role, "float32"), [1, 1, 1], "FP32")
            tensor.set_data_from_numpy(np.zeros((1, 1, 1), np.float32))
            inputs.append(tensor)
        # Of no build: declined at once, by a model that lives.
        question = inference_pb2.InferenceRequest(job_uid="", model_digest="")
        outputs = [triton.InferRequestedOutput(LABELS_TENSOR)]
        try:
            ask(self._client, model, question, inputs, outputs, ANSWERS_WITHIN_S)
        except InferenceServerException as error:
            reason = explained(error)
            if isinstance(reason, ModelDied):
                return False
            if isinstance(reason, ModelUnavailable):
                raise reason from error
            # Another answer is an answer; a late one may come of a job that another worker has.
            return None if is_past_deadline(error) else True
        return True

    def _sweep(self) -> None:
        """Frees what dead models left, once it is old enough to be told from what is being made."""
        if self._settings.transport == "shared_memory" and time.monotonic() < self._sweep_until:
            free_left_regions()

    def _say(self, model: str, trouble: str | None) -> None:
        with self._lock:
            if trouble is None:
                self._troubles.pop(model, None)
            else:
                self._troubles[model] = trouble
