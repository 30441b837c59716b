"""Names on the wire between the caller and a pipeline model in Triton."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ANSWER_TENSOR",
    "CONTROL_HEADER",
    "LABELS_TENSOR",
    "REQUEST_TENSOR",
    "grpc_control_header",
    "volume_tensor_name",
]

REQUEST_TENSOR: Final = "REQUEST"
LABELS_TENSOR: Final = "LABELS"
ANSWER_TENSOR: Final = "ANSWER"
# The header that carries the key without which Triton tells its health and does nothing.
CONTROL_HEADER: Final = "axial-key"


def grpc_control_header() -> str:
    """Return `CONTROL_HEADER` as Triton wants it over gRPC: lower case, with its own prefix."""
    return f"triton-grpc-protocol-{CONTROL_HEADER}"


def volume_tensor_name(role: str) -> str:
    """Return the name of the tensor that carries a role's pixels."""
    return f"VOLUME_{role.replace('-', '_').upper()}"
