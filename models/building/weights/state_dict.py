"""State dicts: PyTorch's files read without running what they name, and safetensors."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from models.building.errors import WeightsError

__all__ = ["load_plain", "read_safetensors", "read_state_dict", "tensors_of"]

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_state_dict(file: Path, within: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Read a state dict that `torch.save` wrote; on the CPU, by name.

    Args:
        file: the file.
        within: the keys under which the state dict lies where the file holds more: ("model",).

    Raises:
        WeightsError: the file cannot be read, names code, or holds no state dict there.
    """
    return tensors_of(load_plain(file), within, file)


def read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file, which can hold nothing but tensors; WeightsError when broken."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} is no safetensors file ({error}). Fetch it again.") from error


def load_plain(file: Path, allowed: AbstractContextManager[object] | None = None) -> Any:
    """Return what a file of `torch.save` holds; WeightsError where it names code.

    `allowed`: a context in which further harmless classes are allowed.
    """
    _require_no_archive(file)
    try:
        with allowed or nullcontext():
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = _GLOBAL.search(str(error))
        if named is None:
            raise WeightsError(f"{file} is no file of torch.save ({_first(error)}).") from error
        raise WeightsError(
            f"{file} is refused: it names the code {named.group(1)}, and reading it would run "
            "that. Convert it to safetensors once, on a machine that may be lost."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise WeightsError(f"{file} cannot be read ({_first(error)}). Fetch it again.") from error


def _require_no_archive(file: Path) -> None:
    """Tell an archive of TorchScript, which would be run, from a file of torch.save."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise WeightsError(
                f"{file} is a TorchScript archive, not a state dict. Declare the format "
                "torchscript."
            )


def tensors_of(content: Any, within: tuple[str, ...], file: Path) -> dict[str, torch.Tensor]:
    """Return the state dict under some keys of a file's content; WeightsError without one."""
    found, place = content, file.name
    for key in within:
        if not isinstance(found, Mapping) or key not in found:
            raise WeightsError(f"{place} has no {key}. {_said(found)}")
        found, place = found[key], f"{place}: {key}"
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"{place} holds no state dict. {_said(found)}")
    odd = [str(name) for name, each in found.items() if not isinstance(each, torch.Tensor)]
    if odd:
        raise WeightsError(
            f"{place} is no state dict: {', '.join(odd[:8])} are no tensors. Say in which of its "
            "parts the weights lie."
        )
    return {str(name): tensor.detach() for name, tensor in found.items()}


def _said(found: Any) -> str:
    if isinstance(found, Mapping):
        names = [str(name) for name in found]
        return f"There are: {', '.join(names[:8])}."
    return f"There is a {type(found).__name__}."


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
