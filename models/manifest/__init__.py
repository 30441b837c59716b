"""What a model says about itself: schema `axial.model/v2`, reading, selecting, the digest.

A manifest is data. This room reads it, refuses what cannot work with file, line, field and
remedy, decides selectors over DICOM attributes as pure functions, and names every build by a
digest over all that decides its results. It needs pydantic and YAML only, so that any service
may use it; arrays, networks and DICOM files are other rooms' matters.
"""

from models.manifest.alignment import aligns_of, frame_of
from models.manifest.attributes import spoken
from models.manifest.base import Code
from models.manifest.errors import ManifestError, ModelError
from models.manifest.findings import Disagreement, Plausibility
from models.manifest.lint import lint_manifest
from models.manifest.loading import (
    load_catalogue,
    load_manifest,
    load_manifest_text,
    manifest_digest,
    manifest_schema,
)
from models.manifest.networks import Precision, Target
from models.manifest.record import BuildRecord, load_build_record
from models.manifest.roles import Choose, Condition, Gate, Role
from models.manifest.schema import Manifest, Segment
from models.manifest.selector import ConditionOutcome, evaluate, rank
from models.manifest.served import (
    ServedBuild,
    UnreadableServed,
    build_folder,
    repository_folder,
    served_builds,
    served_file,
)
from models.manifest.tensors import (
    ANSWER_TENSOR,
    CONTROL_HEADER,
    LABELS_TENSOR,
    PROGRESS_METRIC,
    REQUEST_TENSOR,
    TRITON_DATATYPES,
    VolumeDtype,
    grpc_control_header,
    plan_model_name,
    triton_model_name,
    volume_tensor_name,
)

__all__ = [
    "ANSWER_TENSOR",
    "CONTROL_HEADER",
    "LABELS_TENSOR",
    "PROGRESS_METRIC",
    "REQUEST_TENSOR",
    "TRITON_DATATYPES",
    "BuildRecord",
    "Choose",
    "Code",
    "Condition",
    "ConditionOutcome",
    "Disagreement",
    "Gate",
    "Manifest",
    "ManifestError",
    "ModelError",
    "Plausibility",
    "Precision",
    "Role",
    "Segment",
    "ServedBuild",
    "Target",
    "UnreadableServed",
    "VolumeDtype",
    "aligns_of",
    "build_folder",
    "evaluate",
    "frame_of",
    "grpc_control_header",
    "lint_manifest",
    "load_build_record",
    "load_catalogue",
    "load_manifest",
    "load_manifest_text",
    "manifest_digest",
    "manifest_schema",
    "plan_model_name",
    "rank",
    "repository_folder",
    "served_builds",
    "served_file",
    "spoken",
    "triton_model_name",
    "volume_tensor_name",
]
