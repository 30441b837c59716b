"""The inference client: a job's volumes to a pipeline model in Triton, and labels back.

The only place that speaks Triton's protocol. On one machine volumes go through system shared
memory (one copy into the region, no serialisation); across machines in the gRPC message.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shared_memory
from axial.v1 import inference_pb2
from tritonclient.grpc import InferenceServerClientPlugin
from tritonclient.utils import InferenceServerException

from models.manifest import grpc_control_header, volume_tensor_name
from services.common.rpc import channel_credentials, channel_options
from services.common.settings import TritonSettings
from services.common.stub_regions import close_to_others, free_left_regions
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import MODELS_REVIVED
from services.common.trust import Credentials
from services.imaging import Volume
from services.orchestrator.errors import InferenceFailed, ModelDied, ModelUnavailable
from services.orchestrator.regions import CONTROL_DEADLINE_S, Regions
from services.orchestrator.triton_answers import (
    explained,
    first_line,
    is_past_deadline,
    status_of,
)

_log = get_logger("orchestrator")

# A server that was restarted is found again within a second, as our own services are. Giving any
# argument replaces the library's own, so those are repeated.
_KEEPALIVE = triton.KeepAliveOptions()
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.keepalive_time_ms", _KEEPALIVE.keepalive_time_ms),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE.keepalive_timeout_ms),
    ("grpc.keepalive_permit_without_calls", _KEEPALIVE.keepalive_permit_without_calls),
    ("grpc.http2.max_pings_without_data", _KEEPALIVE.http2_max_pings_without_data),
    *channel_options("triton"),
]
# A model that is not at work declines a question within milliseconds.
ANSWERS_WITHIN_S = 5.0
# After a model died, so long is looked for the memory that it left.
_SWEPT_FOR_S = 60.0


@dataclass(frozen=True, slots=True)
class Inference:
    """What a pipeline model answered.

    Attributes:
        labels: uint8 [k, j, i] on the grid of the first role's volume.
        answer: times, precision and counts.
    """

    labels: npt.NDArray[np.uint8]
    answer: inference_pb2.InferenceAnswer


class ControlKey(InferenceServerClientPlugin):
    """Adds the key that Triton wants to every call of a client."""

    def __init__(self, key: str) -> None:
        self._header = {grpc_control_header(): key}

    def __call__(self, request: Any) -> None:
        request.headers = {**(request.headers or {}), **self._header}


class InferenceClient:
    """A connection to Triton; a context manager."""

    def __init__(self, settings: TritonSettings, owner: str, credentials: Credentials) -> None:
        """Args:
        settings: where Triton is, how volumes travel, and the key that it wants.
        owner: name under which shared memory is made, so that what a dead process of this name
            left can be removed.
        credentials: who asks.

        Raises:
            TrustError: a file of the credentials is missing.
        """
        self._settings = settings
        self._client = triton.InferenceServerClient(
            settings.grpc_address,
            creds=channel_credentials(credentials),
            channel_args=CHANNEL_OPTIONS,
        )
        if settings.control_key is not None:
            self._client.register_plugin(ControlKey(settings.control_key.get_secret_value()))
        self._regions = Regions(self._client, owner)
        # Written by whoever works with a model or asks it, under the lock.
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()
        self._troubles: dict[str, str] = {}
        self._reviving = threading.Lock()
        self._sweep_until = 0.0

    def __enter__(self) -> InferenceClient:
        self._regions.take_up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def problem(self) -> str | None:
        """What keeps the inference server from answering; None when it does."""
        try:
            live = self._client.is_server_live(client_timeout=1.0)
        except InferenceServerException as error:
            return f"Triton at {self._settings.grpc_address}: {status_of(error)}."
        return None if live else f"Triton at {self._settings.grpc_address} is not live."

    def ensure_loaded(self, model: str) -> None:
        """Loads the model when it is not ready (explicit model control).

        Raises:
            ModelUnavailable: Triton does not answer, or cannot load it.
        """
        try:
            if not self._client.is_model_ready(model, client_timeout=5.0):
                self._client.load_model(model, client_timeout=self._settings.load_deadline_s)
        except InferenceServerException as error:
            raise ModelUnavailable(f"{status_of(error)}: {first_line(error)}") from error

    def troubles(self) -> Mapping[str, str]:
        """Models that were found not to answer and do not answer yet, each with a sentence."""
        with self._lock:
            return dict(self._troubles)

    def look_after(self, model: str, roles: Sequence[str]) -> str | None:
        """Asks a model for an answer, and loads it when it gives none because it has died.

        A model that works, for us or for another worker, is not disturbed.

        Args:
            model: its name in Triton.
            roles: its inputs.

        Returns:
            What keeps it from working, as a sentence; None when it works.

        Raises:
            ModelUnavailable: Triton does not answer, or cannot load it.
        """
        self._sweep()
        if self._is_under_way(model):
            return self.troubles().get(model)
        self.ensure_loaded(model)
        answers = self._answers(model, roles)
        if answers is False:
            self._revive(model, roles)
        elif answers:
            self._say(model, None)
        return self.troubles().get(model)

    def infer(
        self, model: str, request: inference_pb2.InferenceRequest, volumes: Mapping[str, Volume]
    ) -> Inference:
        """Runs one job. One copy of each volume, as values; labels are copied out once.

        Raises:
            ModelUnavailable: Triton or the model does not answer; the same call may succeed.
            InferenceFailed: the model broke off on this input.
        """
        self.ensure_loaded(model)
        first = next(iter(volumes.values()))
        try:
            with self._at_work(model):
                answer = self._infer(model, request, volumes, first)
        except InferenceServerException as error:
            reason = explained(error)
            if isinstance(reason, ModelDied) or is_past_deadline(error):
                self._revive(model, tuple(volumes))
            raise reason from error
        self._say(model, None)
        return answer

    def _answers(self, model: str, roles: Sequence[str]) -> bool | None:
        """Whether a model answers: True, False when it has died, None when it may be at work.

        Raises:
            ModelUnavailable: Triton does not answer, or the model is not loaded.
        """
        inputs: list[triton.InferInput] = []
        for role in roles:
            tensor = triton.InferInput(volume_tensor_name(role), [1, 1, 1], "FP32")
            tensor.set_data_from_numpy(np.zeros((1, 1, 1), np.float32))
            inputs.append(tensor)
        # Of no build: declined at once, by a model that lives.
        question = inference_pb2.InferenceRequest(job_uid="", model_digest="")
        outputs = [triton.InferRequestedOutput("LABELS")]
        try:
            self._call(model, question, inputs, outputs, ANSWERS_WITHIN_S)
        except InferenceServerException as error:
            reason = explained(error)
            if isinstance(reason, ModelDied):
                return False
            if isinstance(reason, ModelUnavailable):
                raise reason from error
            # Another answer is an answer; a late one may come of a job that another worker has.
            return None if is_past_deadline(error) else True
        return True

    def _revive(self, model: str, roles: Sequence[str]) -> None:
        """Unloads and loads a model that has died, or hangs; what others revived is left alone.

        Triton waits for ever for the process that is gone; the new one does not wait for that.
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

    @contextmanager
    def _at_work(self, model: str) -> Generator[None]:
        with self._lock:
            self._under_way[model] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[model] -= 1

    def _is_under_way(self, model: str) -> bool:
        with self._lock:
            return self._under_way[model] > 0

    def _infer(
        self,
        model: str,
        request: inference_pb2.InferenceRequest,
        volumes: Mapping[str, Volume],
        first: Volume,
    ) -> Inference:
        deadline_s = self._settings.infer_deadline_s
        close_to_others()
        if self._settings.transport == "shared_memory":
            with self._regions.shared(volumes, first.array.size) as (inputs, outputs, region):
                result = self._call(model, request, inputs, outputs, deadline_s)
                shape = _labels_shape(result)
                if shape != first.array.shape:
                    raise _wrong_shape(shape, first.array.shape)
                labels = np.array(shared_memory.get_contents_as_numpy(region, np.uint8, shape))
        else:
            outputs = [triton.InferRequestedOutput("LABELS")]
            result = self._call(model, request, _inline(volumes), outputs, deadline_s)
            labels = _output(result, "LABELS")
        if labels.shape != first.array.shape or labels.dtype != np.uint8:
            raise _wrong_shape(labels.shape, first.array.shape)
        answer = inference_pb2.InferenceAnswer.FromString(_output(result, "ANSWER").tobytes())
        if answer.model_digest != request.model_digest and not answer.HasField("refusal"):
            raise InferenceFailed("The answer is of another build of the model than was asked.")
        return Inference(labels, answer)

    def _call(
        self,
        model: str,
        request: inference_pb2.InferenceRequest,
        inputs: list[triton.InferInput],
        outputs: list[triton.InferRequestedOutput],
        deadline_s: float,
    ) -> Any:
        message = np.frombuffer(request.SerializeToString(), np.uint8)
        header = triton.InferInput("REQUEST", list(message.shape), "UINT8")
        header.set_data_from_numpy(message)
        return self._client.infer(
            model,
            [header, *inputs],
            outputs=[*outputs, triton.InferRequestedOutput("ANSWER")],
            client_timeout=deadline_s,
            request_id=request.job_uid,
        )


def request_for(
    job_uid: str, digest: str, volumes: Mapping[str, Volume], traceparent: str
) -> inference_pb2.InferenceRequest:
    """The request message of a job."""
    return inference_pb2.InferenceRequest(
        job_uid=job_uid,
        model_digest=digest,
        traceparent=traceparent,
        roles=[
            inference_pb2.RoleVolume(role=role, affine_lps=volume.affine.ravel().tolist())
            for role, volume in volumes.items()
        ],
    )


def _inline(volumes: Mapping[str, Volume]) -> list[triton.InferInput]:
    inputs: list[triton.InferInput] = []
    for role, volume in volumes.items():
        tensor = triton.InferInput(volume_tensor_name(role), list(volume.array.shape), "FP32")
        tensor.set_data_from_numpy(volume.values())
        inputs.append(tensor)
    return inputs


def _labels_shape(result: Any) -> tuple[int, ...]:
    """The shape the model says its labels have; their bytes are in shared memory."""
    described = result.get_output("LABELS")
    if described is None or described.datatype != "UINT8":
        raise InferenceFailed("The model's answer has no UINT8 tensor LABELS.")
    return tuple(int(length) for length in described.shape)


def _wrong_shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> InferenceFailed:
    return InferenceFailed(f"The labels have shape {found}; the volume has {wanted}.")


def _output(result: Any, name: str) -> npt.NDArray[np.uint8]:
    array = result.as_numpy(name)
    if array is None:
        raise InferenceFailed(f"The model's answer has no tensor {name}.")
    return array
