"""Trained weights -> a Triton repository, proven against the networks they came from.

Weights come from a package index with pinned hashes, become OpenVINO IR (target `cpu`),
TorchScript for a GPU (`torch`) or TensorRT plans (`tensorrt`), and are compared with the
trained networks on a whole head before anything is published. A build appears complete or not
at all, under its digest and beside others, with a record of what it was made from; a second build
does nothing but say that it is to be served.
"""

from models.building.building import Report, build_model
from models.building.errors import BuildError, FetchError, ParityError, TargetMissingError
from models.building.explaining import ExplainedStep, explain
from models.building.measuring import BuildTimes, RunTimes, measure_build
from models.building.pruning import prune_builds
from models.building.reference_volumes import (
    ReferenceVolume,
    fetch_demo_head,
    parity_case,
    read_nifti,
)
from models.building.triton_server import TritonDoor, tritonserver_command
from models.building.verifying import (
    ListedBuild,
    ListedModel,
    Verification,
    find_builds,
    list_builds,
    list_models,
    verify_build,
)
from models.manifest import repository_folder

__all__ = [
    "BuildError",
    "BuildTimes",
    "ExplainedStep",
    "FetchError",
    "ListedBuild",
    "ListedModel",
    "ParityError",
    "ReferenceVolume",
    "Report",
    "RunTimes",
    "TargetMissingError",
    "TritonDoor",
    "Verification",
    "build_model",
    "explain",
    "fetch_demo_head",
    "find_builds",
    "list_builds",
    "list_models",
    "measure_build",
    "parity_case",
    "prune_builds",
    "read_nifti",
    "repository_folder",
    "tritonserver_command",
    "verify_build",
]
