"""Networks on the CPU by OpenVINO, in a precision that was asked for and confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from models.runtime.errors import NetworkUnavailableError

__all__ = ["OpenVinoNetwork", "OpenVinoScores", "confirmed_precision"]

_ELEMENT_TYPES: Final = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
_CORE: Final = ov.Core()


class _Compiled:
    """One network compiled for this CPU; a resource for the life of the process.

    Raises:
        NetworkUnavailableError: the device would compute in another precision than the one that
            was built and accepted: results would then not be those of the digest.
    """

    def __init__(self, name: str, model_file: Path, precision: str, threads: int) -> None:
        self.name: Final = name
        self.target: Final = "cpu"
        self.precision: Final = precision
        try:
            self._compiled = _compiled(_CORE.read_model(model_file), precision, threads)
        except RuntimeError as error:
            raise NetworkUnavailableError(
                f"Network {name}: {model_file} cannot be compiled ({error}). Build it again."
            ) from error
        confirmed = confirmed_precision(self._compiled)
        if confirmed != precision:
            raise NetworkUnavailableError(
                f"Network {name} was built and accepted in {precision}, but this CPU would "
                f"compute it in {confirmed}. Build the model on this kind of machine."
            )
        shape = self._compiled.input(0).get_partial_shape()
        first, second, third = (shape[axis].get_length() for axis in range(2, 5))
        self.shape: Final = (first, second, third)
        self._request: ov.InferRequest | None = None

    def release(self) -> None:
        """See `Network.release`; the next run takes about a third longer."""
        self._request = None
        self._compiled.release_memory()

    def _open_request(self) -> ov.InferRequest:
        if self._request is None:
            self._request = self._compiled.create_infer_request()
        return self._request


class OpenVinoScores(_Compiled):
    """A network that answers with scores; see `ScoringNetwork`."""

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `ScoringNetwork.scores`."""
        request = self._open_request()
        request.infer([np.ascontiguousarray(batch)], share_inputs=True)
        return request.get_output_tensor(0).data


class OpenVinoNetwork(_Compiled):
    """A network with its decision built in; see `DecidingNetwork`."""

    def image(self) -> NDArray[np.float32]:
        """See `DecidingNetwork.image`: the request's own input, so that nothing is copied."""
        return self._open_request().get_input_tensor(0).data[0, 0]

    def foreground(self) -> NDArray[np.uint8]:
        """See `DecidingNetwork.foreground`."""
        request = self._open_request()
        request.infer()
        return request.get_output_tensor(0).data[0, 0]


def confirmed_precision(compiled: ov.CompiledModel) -> str:
    """Read back the precision that the device will compute in."""
    answer = compiled.get_property("INFERENCE_PRECISION_HINT")
    name_of_type = answer.to_string() if isinstance(answer, ov.Type) else str(answer)
    for name, element_type in _ELEMENT_TYPES.items():
        if name_of_type in (name, element_type):
            return name
    return name_of_type


def _compiled(model: ov.Model, precision: str, threads: int) -> ov.CompiledModel:
    return _CORE.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            # Other services share the processors; pinned threads would wait for them.
            "ENABLE_CPU_PINNING": "NO",
        },
    )
