"""The inference client: a job's volumes to a model in Triton, and its outputs back.

On one machine volumes go through system shared memory (one copy into the region, no
serialisation); across machines in the gRPC message. `reviving` loads a model that died again.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shared_memory
from axial.v1 import inference_pb2
from tritonclient.utils import InferenceServerException

from models.manifest import ANSWER_TENSOR, LABELS_TENSOR
from services.common.database import utc_now
from services.common.settings import TritonSettings
from services.common.stub_regions import close_to_others
from services.common.trust import Credentials
from services.orchestrator.errors import InferenceFailed, ModelDied, ModelUnavailable
from services.orchestrator.regions import CONTROL_DEADLINE_S, Regions
from services.orchestrator.reviving import ModelReviver
from services.orchestrator.sent_volumes import SentVolume
from services.orchestrator.triton_answers import explained, first_line, is_past_deadline, status_of
from services.orchestrator.triton_connection import ask, connect


@dataclass(frozen=True, slots=True)
class Output:
    """One array of an answer, or its numbers.

    Attributes:
        kind: layers or values.
        grid_role: of layers; empty of values.
        array: of layers, uint8 [k, j, i] on the grid of the volume in `grid_role`.
        numbers: of values, by name: of the whole a number, of segments one by segment's number.
    """

    name: str
    kind: str
    grid_role: str
    array: npt.NDArray[np.uint8] | None
    numbers: Mapping[str, float | Mapping[str, float]] = field(
        default_factory=dict[str, float | Mapping[str, float]]
    )


@dataclass(frozen=True, slots=True)
class Inference:
    """What a model answered.

    Attributes:
        outputs: arrays and numbers, in the manifest's order; none where it is a refusal.
        answer: times, precision and counts.
    """

    outputs: tuple[Output, ...]
    answer: inference_pb2.InferenceAnswer


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
        self._client = connect(settings, credentials)
        self._regions = Regions(self._client, owner)
        self._reviver = ModelReviver(self._client, settings)

    def __enter__(self) -> InferenceClient:
        self._regions.remove_left()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def problem(self) -> str | None:
        """What keeps the inference server from answering, as a sentence; None when it answers."""
        try:
            live = self._client.is_server_live(client_timeout=1.0)
        except InferenceServerException as error:
            return f"Triton at {self._settings.grpc_address}: {status_of(error)}."
        return None if live else f"Triton at {self._settings.grpc_address} is not live."

    def ensure_loaded(self, model: str) -> None:
        """See `ModelReviver.ensure_loaded`."""
        self._reviver.ensure_loaded(model)

    def troubles(self) -> Mapping[str, str]:
        """See `ModelReviver.troubles`."""
        return self._reviver.troubles()

    def is_at_work(self) -> bool:
        """See `ModelReviver.is_at_work`."""
        return self._reviver.is_at_work()

    def look_after(self, model: str, roles: Sequence[str]) -> str | None:
        """See `ModelReviver.look_after`."""
        return self._reviver.look_after(model, roles)

    def infer(
        self,
        model: str,
        request: inference_pb2.InferenceRequest,
        volumes: Mapping[str, SentVolume],
    ) -> Inference:
        """Runs one job. One copy of each volume; outputs are copied out once.

        Args:
            model: the build's name in Triton.
            request: says how each volume is sent, and the role on whose grid outputs lie.
            volumes: role -> what is sent.

        Raises:
            ModelUnavailable: Triton or the model does not answer; the same call may succeed.
            InferenceFailed: the model broke off on this input.
        """
        self._reviver.ensure_loaded(model)
        try:
            with self._reviver.at_work(model):
                answer = self._infer(model, request, volumes)
        except InferenceServerException as error:
            reason = explained(error)
            if isinstance(reason, ModelDied) or is_past_deadline(error):
                self._reviver.revive(model, tuple(volumes))
            raise reason from error
        self._reviver.clear_trouble(model)
        return answer

    def unload(self, model: str) -> None:
        """Has a model unloaded; a model that is not loaded is left alone.

        Raises:
            ModelUnavailable: Triton does not answer.
        """
        try:
            self._client.unload_model(model, client_timeout=CONTROL_DEADLINE_S)
        except InferenceServerException as error:
            raise ModelUnavailable(f"{status_of(error)}: {first_line(error)}") from error
        self._reviver.clear_trouble(model)

    def _infer(
        self,
        model: str,
        request: inference_pb2.InferenceRequest,
        volumes: Mapping[str, SentVolume],
    ) -> Inference:
        deadline_s = self._seconds_until(request.deadline)
        shape = volumes[request.grid_role].shape
        close_to_others()
        if self._settings.transport == "shared_memory":
            sizes = {LABELS_TENSOR: math.prod(shape)}
            with self._regions.shared(volumes, sizes) as (inputs, outputs, regions):
                result = ask(self._client, model, request, inputs, outputs, deadline_s)
                if _output_shape(result, LABELS_TENSOR) != shape:
                    raise _wrong_shape(_output_shape(result, LABELS_TENSOR), shape)
                region = regions[LABELS_TENSOR]
                labels = np.array(shared_memory.get_contents_as_numpy(region, np.uint8, shape))
        else:
            outputs = [triton.InferRequestedOutput(LABELS_TENSOR)]
            result = ask(self._client, model, request, _inline(volumes), outputs, deadline_s)
            labels = _output(result, LABELS_TENSOR)
        if labels.shape != shape or labels.dtype != np.uint8:
            raise _wrong_shape(labels.shape, shape)
        answer = inference_pb2.InferenceAnswer.FromString(_output(result, ANSWER_TENSOR).tobytes())
        if answer.HasField("refusal"):
            return Inference((), answer)
        if answer.model_digest != request.model_digest:
            raise InferenceFailed("The answer is of another build of the model than was asked.")
        return Inference(_outputs(request, answer, labels), answer)

    def _seconds_until(self, deadline: str) -> float:
        """How long an answer is waited for: what the request says, else what is set."""
        if not deadline:
            return self._settings.infer_deadline_s
        return max((dt.datetime.fromisoformat(deadline) - utc_now()).total_seconds(), 0.001)


def request_for(
    job_uid: str,
    digest: str,
    grid_role: str,
    volumes: Mapping[str, SentVolume],
    traceparent: str,
    *,
    priority: int = 0,
    deadline: dt.datetime | None = None,
) -> inference_pb2.InferenceRequest:
    """The request message of a job.

    Args:
        job_uid: the job.
        digest: of the build that is asked.
        grid_role: the role on whose grid outputs are to lie.
        volumes: role -> what is sent.
        traceparent: of the caller's span.
        priority: smaller is more urgent; 0 where nothing is said.
        deadline: when the caller stops waiting.
    """
    return inference_pb2.InferenceRequest(
        job_uid=job_uid,
        model_digest=digest,
        traceparent=traceparent,
        roles=[volume.message() for volume in volumes.values()],
        grid_role=grid_role,
        priority=priority,
        deadline="" if deadline is None else deadline.isoformat(),
    )


def _outputs(
    request: inference_pb2.InferenceRequest,
    answer: inference_pb2.InferenceAnswer,
    labels: npt.NDArray[np.uint8],
) -> tuple[Output, ...]:
    """What an answer lists.

    Raises:
        InferenceFailed: it lists another array than the one label volume that was asked for, or
            none.
    """
    found: list[Output] = []
    for each in answer.outputs:
        if each.kind == "values":
            found.append(Output(each.name, each.kind, "", None, numbers_of(each)))
            continue
        if each.kind != "layers" or each.tensor != LABELS_TENSOR:
            raise InferenceFailed(f"The answer has an output of kind {each.kind} ({each.name}).")
        if each.grid_role != request.grid_role:
            raise InferenceFailed(
                f"The labels lie on the grid of {each.grid_role}, not of {request.grid_role}."
            )
        found.append(Output(each.name, each.kind, each.grid_role, labels))
    if all(each.array is None for each in found):
        raise InferenceFailed("The model's answer lists no output of segments.")
    return tuple(found)


def numbers_of(output: inference_pb2.OutputArray) -> dict[str, float | Mapping[str, float]]:
    """The numbers of an output of kind values, as they are kept; names of segments are numbers."""
    of_segments = {
        each.name: {str(number): value for number, value in sorted(each.by_segment.items())}
        for each in output.segment_values
    }
    return {**output.values, **of_segments}


def _inline(volumes: Mapping[str, SentVolume]) -> list[triton.InferInput]:
    inputs: list[triton.InferInput] = []
    for volume in volumes.values():
        tensor = triton.InferInput(volume.tensor, list(volume.shape), volume.datatype)
        tensor.set_data_from_numpy(volume.voxels())
        inputs.append(tensor)
    return inputs


def _output_shape(result: Any, name: str) -> tuple[int, ...]:
    """The shape the model says an output has; its bytes are in shared memory."""
    described = result.get_output(name)
    if described is None or described.datatype != "UINT8":
        raise InferenceFailed(f"The model's answer has no UINT8 tensor {name}.")
    return tuple(int(length) for length in described.shape)


def _wrong_shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> InferenceFailed:
    return InferenceFailed(f"The labels have shape {found}; the volume has {wanted}.")


def _output(result: Any, name: str) -> npt.NDArray[np.uint8]:
    array = result.as_numpy(name)
    if array is None:
        raise InferenceFailed(f"The model's answer has no tensor {name}.")
    return array
