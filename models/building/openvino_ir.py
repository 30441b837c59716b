"""TorchScript modules -> OpenVINO IR, weights kept in float32."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import torch

from models.building.errors import BuildError

__all__ = ["save_openvino_ir"]


def save_openvino_ir(module_file: Path, shape: tuple[int, int, int], xml_file: Path) -> None:
    """Convert a module float32 [1, 1, x, y, z] -> uint8 to IR of fixed shape.

    The precision of the arithmetic is chosen when the IR is compiled, so that one IR serves all.

    Raises:
        BuildError: the module cannot be converted.
    """
    module = torch.jit.load(str(module_file), map_location="cpu").eval()  # pyright: ignore[reportPrivateImportUsage]
    try:
        model = ov.convert_model(module, example_input=torch.zeros(1, 1, 32, 32, 32))
        model.reshape([1, 1, *shape])
        model.validate_nodes_and_infer_types()
    except RuntimeError as error:
        raise BuildError(f"{module_file.name} cannot be converted to OpenVINO: {error}") from error
    ov.save_model(model, xml_file, compress_to_fp16=False)
