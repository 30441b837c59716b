"""The pipeline as a model of Triton's Python backend.

Tensors cross by DLPack alone: the backend's stub was built against numpy 1, and with numpy 2
its own conversions give tensors of no bytes without a word.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray

from models.manifest import (
    ANSWER_TENSOR,
    LABELS_TENSOR,
    REQUEST_TENSOR,
    TRITON_DATATYPES,
    ModelError,
    volume_tensor_name,
)
from models.runtime.assembly import assemble
from models.runtime.errors import RequestError
from models.runtime.idle import IdleRelease
from models.runtime.known_answer import KNOWN_ANSWER_FILE, KnownAnswer, check_known_answer
from models.runtime.progress import Caller
from models.runtime.progress_metric import ProgressMetric
from models.runtime.running import Cancelled
from models.runtime.serving import answer_request

__all__ = ["TritonPythonModel"]

# Long enough that a worklist's studies follow each other on warm memory.
_IDLE_RELEASE_S: Final = float(os.environ.get("AXIAL_IDLE_RELEASE_S", "20"))

# Kept for the life of the process: a capsule holds its name by address.
_USED_CAPSULE: Final = ctypes.c_char_p(b"used_dltensor")
_set_capsule_name: Final = ctypes.pythonapi.PyCapsule_SetName
_set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]
_set_capsule_name.restype = ctypes.c_int


class TritonPythonModel:
    """One loaded pipeline; Triton makes one per instance and calls it from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the networks and prove them on the known answer; an error refuses the load."""
        folder = Path(args["model_repository"])
        threads = int(os.environ.get("AXIAL_INFERENCE_THREADS", "0")) or len(
            os.sched_getaffinity(0)
        )
        name = json.loads(args["model_config"])["name"]
        self._pipeline, record = assemble(folder, threads, _call_plan)
        self._digest = record.digest
        self._volume_tensors = [
            volume_tensor_name(role, dtype)
            for role in self._pipeline.manifest.roles
            for dtype in TRITON_DATATYPES
        ]
        self._progress = ProgressMetric()
        self._idle = IdleRelease(self._pipeline.release, _IDLE_RELEASE_S)
        if record.target.value != "tensorrt":
            # A plan model may still be loading; its own first request proves it.
            known = KnownAnswer.load(folder / "1" / KNOWN_ANSWER_FILE)
            with self._idle.busy():
                agreement = check_known_answer(self._pipeline, known)
            pb_utils.Logger.log_info(
                f"{name} {record.digest[:12]} {record.precision.value}: known answer, "
                f"Dice {agreement:.4f}"
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request; one that is wrong gets an error, the others their labels."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Stop the thread that watches for idleness."""
        self._idle.close()

    def _respond(self, request: Any) -> Any:
        try:
            message = _input(request, REQUEST_TENSOR)
            if message is None:
                raise RequestError(f"The input {REQUEST_TENSOR} is missing. Send it.")
            found = {name: _input(request, name) for name in self._volume_tensors}
            tensors = {name: array for name, array in found.items() if array is not None}
            labels, answer = answer_request(
                self._pipeline,
                self._digest,
                message.tobytes(),
                tensors,
                self._idle.busy,
                Caller(request.is_cancelled, self._progress.tell),
            )
            encoded = np.frombuffer(bytearray(answer.SerializeToString()), np.uint8)
            return pb_utils.InferenceResponse(
                [
                    _tensor(LABELS_TENSOR, labels),
                    _tensor(ANSWER_TENSOR, encoded),
                ]
            )
        except ModelError as error:
            return _error(str(error), pb_utils.TritonError.INVALID_ARG)
        except Cancelled:
            pb_utils.Logger.log_info("a job was given up: nobody waits for it")
            given_up = pb_utils.TritonError("given up", pb_utils.TritonError.CANCELLED)
            return pb_utils.InferenceResponse(error=given_up)
        except (RuntimeError, ValueError, MemoryError) as error:
            return _error(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
        finally:
            self._progress.forget()


def _error(message: str, code: int) -> Any:
    pb_utils.Logger.log_error(message)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _tensor(name: str, array: NDArray[Any]) -> Any:
    """Lend an array to the backend, without a copy.

    The backend marks the lent capsule as used by a name of its own; the protocol's name keeps
    numpy from complaining on stderr, once per tensor, that it does not know it.
    """
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    if _set_capsule_name(capsule, _USED_CAPSULE):
        raise RuntimeError(f"the capsule of {name} cannot be marked as used")
    return tensor


def _input(request: Any, name: str) -> NDArray[Any] | None:
    """Return an input in the backend's shared memory, without a copy; None when there is none."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else np.from_dlpack(tensor)


def _call_plan(model: str, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Run a TensorRT plan that is a Triton model of its own; see `BlsNetwork`."""
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=["foreground"],
        inputs=[_tensor("image", image)],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
    )
    response = request.exec()
    if response.has_error():
        raise RuntimeError(f"plan {model}: {response.error().message()}")
    output = pb_utils.get_output_tensor_by_name(response, "foreground")
    found: NDArray[Any] = np.from_dlpack(output)
    return found.astype(np.uint8, copy=False)
