"""From TensorFlow's order of axes to PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping

import torch

__all__ = ["channels_first"]

_VOLUME_KERNEL = 5


def channels_first(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors with kernels of volumes as PyTorch has them; others stay.

    A kernel [k0, k1, k2, in, out] becomes [out, in, k0, k1, k2]; a transposed convolution's
    [k0, k1, k2, out, in] becomes [in, out, k0, k1, k2]: one exchange for both.
    """
    return {
        name: tensor.permute(4, 3, 0, 1, 2).contiguous()
        if tensor.ndim == _VOLUME_KERNEL
        else tensor
        for name, tensor in tensors.items()
    }
