"""TorchScript modules -> ONNX -> TensorRT plans, and running a plan for the parity check.

Networks are strongly typed: what a layer computes in is written in the graph, one ONNX file for
each precision. TensorRT 10.13 to 11 read it alike; the flags by which a builder chose a precision
are gone from 11.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.building.errors import BuildError, TargetMissingError
from models.building.onnx_precision import lower_precision

__all__ = ["PlanNetwork", "export_onnx", "require_tensorrt", "save_plan"]

_OPSET: Final = 17
# Workspace that a tactic may use while it is chosen and run.
_WORKSPACE_BYTES: Final = 4 << 30
INPUT_NAME: Final = "image"
OUTPUT_NAME: Final = "foreground"


def require_tensorrt() -> None:
    """Raise TargetMissingError where only its type stubs are, or nothing.

    The stubs make a bare import succeed with an empty namespace, so a real attribute is asked
    for.
    """
    try:
        import tensorrt as trt
    except ImportError as error:
        raise TargetMissingError(_no_tensorrt("is not installed")) from error
    if getattr(trt, "__file__", None) is None or not hasattr(trt, "Builder"):
        raise TargetMissingError(_no_tensorrt("is here as type stubs only"))


def export_onnx(module_file: Path, shape: tuple[int, int, int], onnx_file: Path) -> None:
    """Export a module float32 [1, 1, x, y, z] -> uint8 as ONNX of fixed shape."""
    module = torch.jit.load(str(module_file), map_location="cpu").eval()  # pyright: ignore[reportPrivateImportUsage]
    try:
        torch.onnx.export(
            module,
            (torch.zeros(1, 1, *shape),),
            str(onnx_file),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            opset_version=_OPSET,
            dynamo=False,
        )
    except RuntimeError as error:
        raise BuildError(f"{module_file.name} cannot be exported as ONNX: {error}") from error


def save_plan(onnx_file: Path, precision: str, plan_file: Path) -> None:
    """Build a serialised TensorRT plan for this machine's GPU; BuildError with the parser's words.

    Inputs and outputs stay float32 and uint8. The graph in `precision` is left beside the plan
    (f32: TF32 is forbidden too).
    """
    require_tensorrt()
    import tensorrt as trt

    typed_file = plan_file.with_suffix(".onnx")
    lower_precision(onnx_file, precision, typed_file)
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(typed_file.read_bytes()):
        errors = "; ".join(str(parser.get_error(place)) for place in range(parser.num_errors))
        raise BuildError(f"TensorRT cannot read {onnx_file.name} in {precision}: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    if plan is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise BuildError(
            f"TensorRT made no plan of {onnx_file.name} in {precision}. Its log says why: an "
            "operator that the GPU has not in this precision, or too little memory."
        )
    plan_file.write_bytes(bytes(plan))


class PlanNetwork:
    """A plan run in this process, for the parity check; see `models.runtime.networks`."""

    def __init__(
        self, name: str, plan_file: Path, shape: tuple[int, int, int], precision: str
    ) -> None:
        require_tensorrt()
        import tensorrt as trt

        self.name: Final = name
        self.target: Final = "tensorrt"
        self.precision: Final = precision
        self.shape: Final = shape
        self._image: Final = np.empty(shape, np.float32)
        self._runtime: Final = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        engine = self._runtime.deserialize_cuda_engine(plan_file.read_bytes())
        if engine is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise BuildError(f"{plan_file.name} cannot be loaded on this GPU. Build it here.")
        self._engine: Final = engine
        self._context: Final = engine.create_execution_context()

    def image(self) -> NDArray[np.float32]:
        """See `Network.image`."""
        return self._image

    def foreground(self) -> NDArray[np.uint8]:
        """See `Network.foreground`."""
        source = torch.from_numpy(self._image)[None, None].cuda().contiguous()
        found = torch.empty(source.shape, dtype=torch.uint8, device="cuda")
        self._context.set_tensor_address(INPUT_NAME, source.data_ptr())
        self._context.set_tensor_address(OUTPUT_NAME, found.data_ptr())
        stream = torch.cuda.current_stream()
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise BuildError(f"Network {self.name}: TensorRT could not run its plan.")
        stream.synchronize()
        return found[0, 0].cpu().numpy()

    def release(self) -> None:
        """See `Network.release`."""


def _no_tensorrt(how: str) -> str:
    return (
        f"TensorRT {how}. The target tensorrt is built on the GPU machine it runs on, with "
        "NVIDIA's tensorrt package. Elsewhere build the target cpu."
    )
