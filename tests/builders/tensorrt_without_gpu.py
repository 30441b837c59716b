"""TensorRT's compiler on a machine without a GPU: NVIDIA's TensorRT-RTX, ahead of time.

It reads and compiles the same networks by the same classes, for a generation of GPUs that is
named. What it makes cannot be loaded here, and is no plan for Triton.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

# A compute capability of each generation that the library knows: Turing, Ampere, Ada, Blackwell.
GENERATIONS = ("SM75", "SM80", "SM89", "SM120")
# What its float convolutions of volumes cannot do: Turing has them in half precision only.
ONLY_HALF = ("SM75",)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a network as the parser made it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was given to the compiler: inputs, outputs, convolutions by what they compute in."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    convolutions: dict[str, int]


@contextmanager
def compiling_for(generation: str) -> Generator[list[Parsed]]:
    """`import tensorrt` is TensorRT-RTX within, compiling for a generation; yields what was parsed.

    Skips where the library is not installed.
    """
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("needs NVIDIA's tensorrt-rtx: make tensorrt-rtx")
    parsed: list[Parsed] = []
    before = sys.modules.get("tensorrt")
    sys.modules["tensorrt"] = _module(generation, parsed)
    try:
        yield parsed
    finally:
        del sys.modules["tensorrt"]
        if before is not None:
            sys.modules["tensorrt"] = before


def _module(generation: str, parsed: list[Parsed]) -> ModuleType:
    import tensorrt_rtx  # pyright: ignore[reportMissingImports]

    trt: Any = tensorrt_rtx

    class Builder(trt.Builder):
        def create_builder_config(self) -> Any:
            config = super().create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(trt.ComputeCapability, generation), 0)
            return config

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            parsed.append(_parsed(trt, network))
            return super().build_serialized_network(network, config)

    module = ModuleType("tensorrt")
    module.__dict__.update(trt.__dict__)
    module.__dict__["Builder"] = Builder
    return module


def _parsed(trt: Any, network: Any) -> Parsed:
    convolutions: dict[str, int] = {}
    for place in range(network.num_layers):
        layer = network.get_layer(place)
        if layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION):
            dtype = layer.get_output(0).dtype.name
            convolutions[dtype] = convolutions.get(dtype, 0) + 1
    return Parsed(
        [_tensor(network.get_input(place)) for place in range(network.num_inputs)],
        [_tensor(network.get_output(place)) for place in range(network.num_outputs)],
        convolutions,
    )


def _tensor(tensor: Any) -> Tensor:
    return Tensor(tensor.name, tensor.dtype.name, tuple(tensor.shape))
