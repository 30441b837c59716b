"""The inference client: a job's volumes to a pipeline model in Triton, and labels back.

The only place that speaks Triton's protocol. On one machine volumes go through system shared
memory (one copy into the region, no serialisation); across machines in the gRPC message.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shared_memory
from axial.v1 import inference_pb2
from tritonclient.grpc import InferenceServerClientPlugin
from tritonclient.utils import InferenceServerException

from models.manifest import grpc_control_header
from services.common.rpc import channel_credentials, channel_options
from services.common.settings import TritonSettings
from services.common.telemetry import get_logger
from services.common.trust import Credentials
from services.imaging import Volume
from services.orchestrator.errors import InferenceFailed, ModelUnavailable

_log = get_logger("orchestrator")

_REGION_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies on Linux
_REGION_PREFIX = "axial-"
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
# Deadline of calls that move no pixels.
CONTROL_DEADLINE_S = 10.0
# Triton's Python backend grows its own regions beside ours.
_ROOM_FOR_OTHERS = 16 << 20
# gRPC states in which the request itself may be fine.
_UNREACHABLE = ("UNAVAILABLE", "CANCELLED")
# gRPC states in which asking again at once helps nothing.
_SILENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
# Triton lets go of a request's regions within microseconds; half a second in all.
_RELEASE_ATTEMPTS, _RELEASE_WAIT_S = 50, 0.01
# What Triton says while a model is loading, unloading, or its process has just died.
_NOT_SERVING = (
    "is not ready",
    "not found",
    "unknown model",
    "no available versions",
    "stub process",
    "is not healthy",
    "failed to connect",
)


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
        self._owner = "".join(c if c.isalnum() else "-" for c in owner)
        self._client = triton.InferenceServerClient(
            settings.grpc_address,
            creds=channel_credentials(credentials),
            channel_args=CHANNEL_OPTIONS,
        )
        if settings.control_key is not None:
            self._client.register_plugin(ControlKey(settings.control_key.get_secret_value()))
        # Names that Triton would not let go of: of requests that outlived their deadline.
        self._still_registered: set[str] = set()

    def __enter__(self) -> InferenceClient:
        left_over = list(_REGION_FOLDER.glob(f"{self._region_names()}*"))
        # While Triton holds a registration the memory stays taken, also of a file that is gone.
        self._still_registered |= {file.name for file in left_over} | self._registered()
        self._release_refused()
        for file in left_over:
            file.unlink(missing_ok=True)
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
            return f"Triton at {self._settings.grpc_address}: {_status(error)}."
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
            raise ModelUnavailable(f"{_status(error)}: {_first_line(error)}") from error

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
            if self._settings.transport == "shared_memory":
                with self._regions(volumes, first.array.size) as (inputs, outputs, labels_region):
                    result = self._call(model, request, inputs, outputs)
                    shape = _labels_shape(result)
                    if shape != first.array.shape:
                        raise _wrong_shape(shape, first.array.shape)
                    labels = np.array(
                        shared_memory.get_contents_as_numpy(labels_region, np.uint8, shape)
                    )
            else:
                outputs = [triton.InferRequestedOutput("LABELS")]
                result = self._call(model, request, _inline(volumes), outputs)
                labels = _output(result, "LABELS")
        except InferenceServerException as error:
            raise _explained(error) from error
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
    ) -> Any:
        message = np.frombuffer(request.SerializeToString(), np.uint8)
        header = triton.InferInput("REQUEST", list(message.shape), "UINT8")
        header.set_data_from_numpy(message)
        return self._client.infer(
            model,
            [header, *inputs],
            outputs=[*outputs, triton.InferRequestedOutput("ANSWER")],
            client_timeout=self._settings.infer_deadline_s,
            request_id=request.job_uid,
        )

    @contextmanager
    def _regions(
        self, volumes: Mapping[str, Volume], labels_bytes: int
    ) -> Generator[tuple[list[triton.InferInput], list[triton.InferRequestedOutput], Any]]:
        self._release_refused()
        name = f"{self._region_names()}{uuid.uuid4().hex[:8]}"
        _require_room(labels_bytes + sum(map(_values_bytes, volumes.values())))
        made: list[tuple[str, Any]] = []
        try:
            inputs: list[triton.InferInput] = []
            for role, volume in volumes.items():
                size = _values_bytes(volume)
                region = self._register(f"{name}-{role}", size, made)
                shape = list(volume.array.shape)
                volume.write_values(shared_memory.get_contents_as_numpy(region, np.float32, shape))
                tensor = triton.InferInput(_tensor(role), shape, "FP32")
                tensor.set_shared_memory(f"{name}-{role}", size)
                inputs.append(tensor)
            labels = self._register(f"{name}-labels", labels_bytes, made)
            output = triton.InferRequestedOutput("LABELS")
            output.set_shared_memory(f"{name}-labels", labels_bytes)
            yield inputs, [output], labels
        finally:
            for region_name, region in made:
                self._unregister(region_name)
                shared_memory.destroy_shared_memory_region(region)

    def _register(self, name: str, size: int, made: list[tuple[str, Any]]) -> Any:
        try:
            region = shared_memory.create_shared_memory_region(name, f"/{name}", size)
        except shared_memory.SharedMemoryException as error:
            raise ModelUnavailable(f"No shared memory of {size} bytes: {error}") from error
        made.append((name, region))
        self._client.register_system_shared_memory(
            name, f"/{name}", size, client_timeout=CONTROL_DEADLINE_S
        )
        return region

    def _region_names(self) -> str:
        # No owner has a dot: "worker" never takes the memory of "worker-1" for its own.
        return f"{_REGION_PREFIX}{self._owner}."

    def _registered(self) -> set[str]:
        """Our regions that Triton knows; none when it does not answer."""
        try:
            status: Any = self._client.get_system_shared_memory_status(
                client_timeout=CONTROL_DEADLINE_S
            )
        except InferenceServerException as error:
            _log.info("shared_memory_status_unknown", status=_status(error))
            return set()
        return {str(name) for name in status.regions if name.startswith(self._region_names())}

    def _unregister(self, name: str) -> None:
        # Triton answers a request before it has let go of its regions, and refuses until it has:
        # a registration that stays would keep the memory of every job mapped there.
        for _ in range(_RELEASE_ATTEMPTS):
            refusal = self._refusal_to_unregister(name)
            if refusal is None:
                return
            if any(state in refusal for state in _SILENT):
                break
            time.sleep(_RELEASE_WAIT_S)
        # The model works on, past the deadline of its request: asked again before the next job.
        self._still_registered.add(name)
        _log.warning("shared_memory_stays_registered")

    def _release_refused(self) -> None:
        """Asks once more for the regions that Triton would not let go of."""
        for name in list(self._still_registered):
            refusal = self._refusal_to_unregister(name)
            if refusal is None:
                self._still_registered.discard(name)
            elif any(state in refusal for state in _SILENT):
                return

    def _refusal_to_unregister(self, name: str) -> str | None:
        """Triton's status when it does not let go of a region; None when it has."""
        try:
            self._client.unregister_system_shared_memory(name, client_timeout=CONTROL_DEADLINE_S)
        except InferenceServerException as error:
            return _status(error)
        return None


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
        tensor = triton.InferInput(_tensor(role), list(volume.array.shape), "FP32")
        tensor.set_data_from_numpy(volume.values())
        inputs.append(tensor)
    return inputs


def _values_bytes(volume: Volume) -> int:
    return volume.array.size * np.dtype(np.float32).itemsize


def _tensor(role: str) -> str:
    return f"VOLUME_{role.upper()}"


def _labels_shape(result: Any) -> tuple[int, ...]:
    """The shape the model says its labels have; their bytes are in shared memory."""
    described = result.get_output("LABELS")
    if described is None or described.datatype != "UINT8":
        raise InferenceFailed("The model's answer has no UINT8 tensor LABELS.")
    return tuple(int(length) for length in described.shape)


def _wrong_shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> InferenceFailed:
    return InferenceFailed(f"The labels have shape {found}; the volume has {wanted}.")


def _require_room(size: int) -> None:
    """A region that does not fit is found out when it is written: by a signal that kills us."""
    free = shutil.disk_usage(_REGION_FOLDER).free
    if free < size + _ROOM_FOR_OTHERS:
        raise ModelUnavailable(
            f"{_REGION_FOLDER} has {free >> 20} MiB free, {size >> 20} MiB are needed. Make it "
            "larger, or set triton.transport to grpc."
        )


def _output(result: Any, name: str) -> npt.NDArray[np.uint8]:
    array = result.as_numpy(name)
    if array is None:
        raise InferenceFailed(f"The model's answer has no tensor {name}.")
    return array


def _explained(error: InferenceServerException) -> ModelUnavailable | InferenceFailed:
    text = _first_line(error)
    unreachable = any(state in _status(error) for state in _UNREACHABLE)
    if unreachable or any(sign in text.lower() for sign in _NOT_SERVING):
        return ModelUnavailable(text)
    return InferenceFailed(text)


def _status(error: InferenceServerException) -> str:
    return str(error.status() or "no status")


def _first_line(error: InferenceServerException) -> str:
    return str(error.message() or "no message").splitlines()[0][:300]
