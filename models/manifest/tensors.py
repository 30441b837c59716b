"""Names on the wire between the caller and a model in Triton: models, tensors, a header, a metric.

The one place that makes them. The name of a model, a role or a network (`Name` in
`models.manifest.base`) has neither two hyphens in a row nor a dot nor a capital, so that what is
joined here by those comes apart in one way only.
"""

from __future__ import annotations

from typing import Final, Literal

__all__ = [
    "ANSWER_TENSOR",
    "CONTROL_HEADER",
    "LABELS_TENSOR",
    "PROGRESS_METRIC",
    "REQUEST_TENSOR",
    "TRITON_DATATYPES",
    "VolumeDtype",
    "grpc_control_header",
    "plan_model_name",
    "triton_model_name",
    "volume_tensor_name",
]

REQUEST_TENSOR: Final = "REQUEST"
LABELS_TENSOR: Final = "LABELS"
ANSWER_TENSOR: Final = "ANSWER"
# A gauge of Triton's metrics, with the job's UID as its label `job`.
PROGRESS_METRIC: Final = "axial_job_progress"
# How a volume's voxels may be stored, and what Triton calls it.
VolumeDtype = Literal["int16", "uint16", "float32"]
TRITON_DATATYPES: Final[dict[VolumeDtype, str]] = {
    "int16": "INT16",
    "uint16": "UINT16",
    "float32": "FP32",
}
# The header that carries the key without which Triton tells its health and does nothing.
CONTROL_HEADER: Final = "axial-key"
# Two builds of one model are told apart by so much of their digests; records hold all of it.
_DIGEST_DIGITS: Final = 12


def grpc_control_header() -> str:
    """Return `CONTROL_HEADER` as Triton wants it over gRPC: lower case, with its own prefix."""
    return f"triton-grpc-protocol-{CONTROL_HEADER}"


def triton_model_name(name: str, digest: str) -> str:
    """Return the name of a build in Triton, also its folder's: "brain-extraction--d1b01a5b6aca"."""
    return f"{name}--{digest[:_DIGEST_DIGITS]}"


def plan_model_name(name: str, digest: str, network: str) -> str:
    """Return the name of the Triton model that holds the TensorRT plan of a build's network."""
    return f"{triton_model_name(name, digest)}--{network}"


def volume_tensor_name(role: str, dtype: VolumeDtype) -> str:
    """Return the name of the tensor that carries a role's voxels: "VOLUME.t1-gd.int16"."""
    return f"VOLUME.{role}.{dtype}"
