"""What results are made of: one job, as the orchestrator describes it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.manifest import Manifest
from services.common.sentences import Value


@dataclass(frozen=True, slots=True)
class Layers:
    """The output of a job in which its segments lie, on the slices of the series of one role.

    Attributes:
        store_key: of a gzip of a .npy, uint8 [k, j, i]: segment numbers.
        name: the output's name in the manifest; empty where the caller names none.
        grid_role: the role on whose slices the output lies.
        digest: SHA-256 of the stored object; empty where none is known.
        touching_unmeasured: numbers of segments that reach voxels that were not measured.
    """

    store_key: str
    name: str = ""
    grid_role: str = ""
    digest: str = ""
    touching_unmeasured: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelNumbers:
    """An output of a job that holds numbers, by name: of the whole, and by segment's number."""

    whole: Mapping[str, float]
    of_segments: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class Job:
    """One model on one selection of one revision.

    Attributes:
        series_uid: the series on whose slices the labels lie: that of their role.
        sop_instance_uids: its instances in slice order: element k is plane k of the labels.
        frames: of the same length, the number of each plane's frame (or mosaic tile) in its
            instance, from 1, and 0 where the instance is one plane; empty when all are.
        layers: the labels, and what is known of the labels.
        analysis_started: timezone-aware; becomes ContentDate and ContentTime.
        supersedes_job_uid: the job whose results these replace; empty when there is none.
        incomplete: what is known to be missing of the study, at most 64 characters.
        left_out: sentences about images of the selected series that are no slices.
        numbers: the outputs that hold numbers, by their names in the manifest.
    """

    job_uid: str
    study_uid: str
    revision: int
    manifest: Manifest
    model_digest: str
    series_uid: str
    sop_instance_uids: tuple[str, ...]
    layers: Layers
    analysis_started: dt.datetime
    supersedes_job_uid: str = ""
    frames: tuple[int, ...] = ()
    incomplete: str = ""
    left_out: tuple[str, ...] = ()
    numbers: Mapping[str, ModelNumbers] = field(default_factory=dict[str, ModelNumbers])


@dataclass(frozen=True, slots=True)
class Withholding:
    """Why the results of a job do not leave: a reason code of fate `withheld` and its values."""

    reason: str
    values: dict[str, Value]


def object_check_failed(kind: str, problem: str) -> Withholding:
    """An object of `kind` did not pass its checks."""
    return Withholding("object_check_failed", {"kind": kind, "problem": problem})


def geometry_mismatch(problem: str) -> Withholding:
    """The labels do not lie on the source's grid."""
    return Withholding("geometry_mismatch", {"problem": problem})
