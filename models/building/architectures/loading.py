"""Weights into a network, all or an error: nothing left over, nothing left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch

from models.building.architectures.keys import KeyMap
from models.building.errors import WeightsError

__all__ = ["load_strictly"]

N = TypeVar("N", bound=torch.nn.Module)
# So many names stand in an error; a wrong file would fill pages.
_NAMED = 8
# BatchNorm's counter of training steps: no part of inference, and some files lack it.
_COUNTER = ".num_batches_tracked"


def load_strictly(network: N, tensors: Mapping[str, torch.Tensor], keys: KeyMap | None = None) -> N:
    """Copy tensors into a network of the same variables; returns it, ready for inference.

    A variable that the network holds under several names (nnU-Net's encoder stands in its decoder
    too) may come under one of them. BatchNorm's step counters may be missing.

    Args:
        network: freshly built.
        tensors: by the file's names.
        keys: how these become the network's names; None: they are these.

    Raises:
        WeightsError: variables that are missing, not used, of another shape or not of numbers,
            by name.
    """
    named = dict((keys or KeyMap()).applied(tensors))
    own: dict[str, torch.Tensor] = dict(network.state_dict(keep_vars=True))
    _require_all(named, own)
    _require_shapes(named, own)
    with torch.no_grad():
        for name, tensor in named.items():
            own[name].copy_(tensor)
    return network.eval()


def _require_all(named: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    unused = sorted(named.keys() - own.keys())
    given = {id(own[name]) for name in named.keys() & own.keys()}
    missing = sorted(
        name for name, tensor in own.items() if id(tensor) not in given and _COUNTER not in name
    )
    if not unused and not missing:
        return
    said = [
        f"{len(names)} {what} ({_listed(names)})"
        for names, what in ((missing, "variables are missing"), (unused, "variables are not used"))
        if names
    ]
    raise WeightsError(
        f"The weights are not this network's: {'; '.join(said)}. Check the architecture, its "
        "arguments and the key map."
    )


def _require_shapes(named: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    wrong = [
        f"{name} is {list(tensor.shape)}, the network's {list(own[name].shape)}"
        for name, tensor in named.items()
        if tensor.shape != own[name].shape
    ]
    if wrong:
        raise WeightsError(f"Weights of other shapes: {_listed(wrong)}. Check the arguments.")
    broken = [
        name
        for name, tensor in named.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if broken:
        raise WeightsError(f"Weights that are no finite numbers: {_listed(broken)}.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
