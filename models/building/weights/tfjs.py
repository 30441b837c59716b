"""TensorFlow.js layers models: `model.json` with the layers' settings, and raw arrays.

The reader gives layers and tensors as they are. Which axis of a volume the network takes for the
first is not in the file; the manifest says it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.building.errors import WeightsError

__all__ = ["TfjsLayer", "TfjsLayers", "read_tfjs_layers"]

_LARGEST_JSON: Final = 16 << 20
_LARGEST_DATA: Final = 4 << 30
_DTYPES: Final = {"float32": "<f4", "int32": "<i4"}


@dataclass(frozen=True, slots=True)
class TfjsLayer:
    """One layer: Keras' class, its name and settings, and the layers that it takes."""

    kind: str
    name: str
    settings: Mapping[str, Any]
    takes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TfjsLayers:
    """Layers in the file's order; tensors by `<layer>/kernel` and `<layer>/bias`, channels last.

    `parts`: names of the files of arrays, which lie beside it.
    """

    layers: tuple[TfjsLayer, ...]
    tensors: Mapping[str, torch.Tensor]
    parts: tuple[str, ...] = ()


def read_tfjs_layers(model_json: Path) -> TfjsLayers:
    """Read a model; its binary files lie beside `model.json`.

    Raises:
        WeightsError: a file is missing, shorter or longer than it says, or of another kind.
    """
    described = _read_json(model_json)
    try:
        topology = described["modelTopology"]
        model = topology.get("model_config", topology)
        layers = tuple(_layer(one) for one in model["config"]["layers"])
        groups = list(described["weightsManifest"])
        named = [(group["paths"], group["weights"]) for group in groups]
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{model_json} is no TensorFlow.js layers model ({error!r}). Graph models are not read."
        ) from error
    tensors: dict[str, torch.Tensor] = {}
    for paths, weights in named:
        content = b"".join(_read_part(model_json, path) for path in paths)
        tensors |= _tensors(content, weights, model_json)
    return TfjsLayers(layers, tensors, tuple(path for paths, _ in named for path in paths))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise WeightsError(f"{file} has over {_LARGEST_JSON >> 20} MiB, more than is read.")
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read ({error}). Fetch it again.") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{file} is no TensorFlow.js layers model: it is no JSON object.")
    return found


def _layer(described: Mapping[str, Any]) -> TfjsLayer:
    # One node of the graph: [[[layer, node, tensor, settings], ...]]; an input has none.
    nodes = described["inbound_nodes"]
    return TfjsLayer(
        kind=described["class_name"],
        name=described["config"]["name"],
        settings=described["config"],
        takes=tuple(str(taken[0]) for node in nodes for taken in node),
    )


def _read_part(model_json: Path, path: Any) -> bytes:
    if not isinstance(path, str) or Path(path).name != path:
        raise WeightsError(f"{model_json} names the file {path!r}, which does not lie beside it.")
    file = model_json.with_name(path)
    try:
        if file.stat().st_size > _LARGEST_DATA:
            raise WeightsError(f"{file} has over {_LARGEST_DATA >> 30} GiB, more than is read.")
        return file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read ({error}). Fetch it too.") from error


def _tensors(content: bytes, weights: Any, file: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    place = 0
    for one in weights:
        name, dtype = one["name"], _DTYPES.get(one["dtype"])
        if dtype is None or "quantization" in one:
            raise WeightsError(f"{file}: {name} is quantised or of {one['dtype']}: not read.")
        shape = [int(size) for size in one["shape"]]
        end = place + math.prod(shape) * np.dtype(dtype).itemsize
        if min(shape, default=1) < 0 or end > len(content):
            raise WeightsError(
                f"{file}: its binary files have {len(content)} bytes, and {name} reaches to "
                f"{end}. Fetch them again."
            )
        found = np.frombuffer(content[place:end], dtype).reshape(shape)
        tensors[name] = torch.from_numpy(found.astype(found.dtype.newbyteorder("=")))
        place = end
    if place != len(content):
        raise WeightsError(
            f"{file}: its binary files have {len(content)} bytes, {place} are described. Fetch "
            "them again."
        )
    return tensors
