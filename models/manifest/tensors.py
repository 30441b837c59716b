"""Names of the tensors between the caller and a pipeline model in Triton."""

from __future__ import annotations

from typing import Final

__all__ = ["ANSWER_TENSOR", "LABELS_TENSOR", "REQUEST_TENSOR", "volume_tensor_name"]

REQUEST_TENSOR: Final = "REQUEST"
LABELS_TENSOR: Final = "LABELS"
ANSWER_TENSOR: Final = "ANSWER"


def volume_tensor_name(role: str) -> str:
    """Return the name of the tensor that carries a role's pixels."""
    return f"VOLUME_{role.replace('-', '_').upper()}"
