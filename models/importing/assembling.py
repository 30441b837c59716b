"""The parts of a manifest that every importer writes alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.importing.said import Said
from models.manifest.schema import SCHEMA

__all__ = ["Described", "Pinned", "manifest_data"]

Pinned = dict[str, str | int]
_UNSAID: Final = "not stated"
# Of the kinds of volumes whose voxels a build may differ in: one in a hundred thousand.
_DIFFERING: Final = 1e-5
_FEWEST_DIFFERING: Final = 50


@dataclass(frozen=True, slots=True)
class Described:
    """What an importer found out.

    Attributes:
        title: of the model.
        description: of it, in sentences.
        citation: how the authors want it named; may be empty.
        licence: of the weights; may be empty.
        copyright: where the weights are from.
        weights: the files, pinned.
        case: a scan that builds are compared on, pinned; None: a made volume.
        case_voxels: how many it has.
        roles: of the series, by name; the first is the one whose slices the labels lie on.
        networks: by name.
        plan: its steps.
        output: the value that leaves the plan.
        segments: of the labels.
    """

    title: str
    description: str
    citation: str
    licence: str
    copyright: str
    weights: Sequence[Pinned]
    case: Pinned | None
    case_voxels: int
    roles: dict[str, dict[str, Any]]
    networks: dict[str, Any]
    plan: list[dict[str, Any]]
    output: str
    segments: list[dict[str, Any]]


def manifest_data(described: Described, said: Said) -> dict[str, Any]:
    """Return a manifest as data, its sections in the order in which they are read."""
    identity: dict[str, Any] = {
        "name": said.name,
        "version": "1.0.0",
        "title": described.title[:64],
        "description": described.description,
        "licence": said.licence or described.licence or _UNSAID,
        "manufacturer": (said.manufacturer or _UNSAID)[:64],
        "algorithm_family": {
            "scheme": "DCM",
            "value": "123110",
            "meaning": "Artificial Intelligence",
        },
    }
    if described.citation:
        identity["citation"] = described.citation
    files = [*described.weights, *([] if described.case is None else [described.case])]
    weights = {"kind": "folder", "licence": identity["licence"], "copyright": described.copyright}
    case: dict[str, Any] = {"phantom": "blobs"}
    if described.case is not None:
        case = {"source": "beside", "path": described.case["path"]}
    case["role"] = next(iter(described.roles))
    differing = max(_FEWEST_DIFFERING, round(described.case_voxels * _DIFFERING))
    return {
        "schema": SCHEMA,
        "identity": identity,
        "sources": {"beside": {**weights, "files": files}},
        "roles": described.roles,
        "networks": described.networks,
        "plan": described.plan,
        "outputs": [{"name": "labels", "kind": "layers", "of": described.output}],
        "precision": {"cpu": ["f32"], "tensorrt": ["f32"], "torch": ["f32"]},
        "segments": described.segments,
        "measurements": [
            {
                "kind": "volume",
                "concept": {"scheme": "SCT", "value": "118565006", "meaning": "Volume"},
                "unit": {"scheme": "UCUM", "value": "mL", "meaning": "milliliter"},
            }
        ],
        "acceptance": {
            "parity": {
                "case": case,
                "bounds": {"f32": {"min_dice": 0.999, "max_differing_voxels": differing}},
            }
        },
        "resources": {"host_memory_mib": 6000},
    }
