"""MeshNets in TensorFlow.js form (brainchop): arguments and key map from the layers' settings."""

from __future__ import annotations

from typing import Any

from models.building.architectures.keys import KeyMap
from models.building.errors import WeightsError
from models.building.weights.tfjs import TfjsLayer, TfjsLayers

__all__ = ["meshnet_of"]

# brainchop normalises after layers of this name; their settings do not say so.
_NORMALISED = "_gn"
_PLAIN = {"strides": [1, 1, 1], "padding": "same", "data_format": "channels_last"}


def meshnet_of(model: TfjsLayers) -> tuple[dict[str, Any], KeyMap]:
    """Return a MeshNet's arguments and the map of its variables' names.

    The tensors go through `channels_first` before they are loaded.

    Raises:
        WeightsError: the layers are not a chain of convolutions and activations as MeshNet has.
    """
    _require_chain(model.layers)
    convolutions = [layer for layer in model.layers if layer.kind == "Conv3D"]
    activations = {
        layer.settings["activation"] for layer in model.layers if layer.kind == "Activation"
    }
    if len(convolutions) < 2 or len(activations) != 1:
        raise WeightsError(f"No MeshNet: activations {sorted(activations)}, and one is expected.")
    *stack, last = convolutions
    arguments = {
        "input_channels": int(model.tensors[f"{stack[0].name}/kernel"].shape[3]),
        "classes": last.settings["filters"],
        "width": _same(stack, "filters"),
        "dilations": [layer.settings["dilation_rate"][0] for layer in stack],
        "activation": activations.pop(),
        "normalisation": _same_normalisation(stack),
        "bias": _same(stack, "use_bias"),
    }
    places = [f"layers.{place}" for place in range(len(stack))] + ["output"]
    replace = [
        (f"{layer.name}/{theirs}", f"{place}.{ours}")
        for layer, place in zip(convolutions, places, strict=True)
        for theirs, ours in (("kernel", "weight"), ("bias", "bias"))
    ]
    # The longest names first: 1/kernel stands in 21/kernel too.
    replace.sort(key=lambda pair: len(pair[0]), reverse=True)
    return arguments, KeyMap(replace=tuple(replace))


def _require_chain(layers: tuple[TfjsLayer, ...]) -> None:
    for before, layer in zip((None, *layers), layers, strict=False):
        if layer.kind not in ("InputLayer", "Conv3D", "Activation"):
            raise WeightsError(f"No MeshNet: the layer {layer.name} is a {layer.kind}.")
        if layer.takes != (() if before is None else (before.name,)):
            raise WeightsError(f"No MeshNet: the layer {layer.name} takes {list(layer.takes)}.")
        if layer.kind == "Conv3D":
            _require_plain(layer)


def _require_plain(layer: TfjsLayer) -> None:
    for setting, wanted in _PLAIN.items():
        if layer.settings[setting] != wanted:
            raise WeightsError(
                f"No MeshNet: {setting} of the layer {layer.name} is {layer.settings[setting]}."
            )
    if layer.settings["activation"] != "linear" or layer.settings.get("groups", 1) != 1:
        raise WeightsError(f"No MeshNet: the layer {layer.name} does more than convolve.")


def _same(layers: list[TfjsLayer], setting: str) -> Any:
    found = [layer.settings[setting] for layer in layers]
    if any(one != found[0] for one in found):
        raise WeightsError(f"No MeshNet: {setting} differs between layers ({found}).")
    return found[0]


def _same_normalisation(layers: list[TfjsLayer]) -> str:
    normalised = {layer.name.endswith(_NORMALISED) for layer in layers}
    if len(normalised) != 1:
        raise WeightsError("No MeshNet: some layers are normalised and others are not.")
    return "instance" if normalised.pop() else "none"
