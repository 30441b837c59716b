"""The source series of a job: what its objects copy and refer to.

Every instance's geometry comes from the header that was kept when it arrived, with the decimal
strings as they were sent. The first instance's file gives the patient, study and equipment
attributes; of the others only the patient is read, who must be the same. No pixel is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from sqlalchemy import Engine, select

from services.common.database import InstanceRow
from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.common.store import StudyStore
from services.common.stored_objects import StoredObjectError, bound_of, read_head
from services.imaging.frames import frame_of, whole_attributes
from services.imaging.geometry import GeometryLimits, SeriesGeometry, examine_series
from services.imaging.limits import limits_of
from services.imaging.opening import open_stored_images
from services.reporting.errors import JobError
from services.reporting.job import Job, Withholding, geometry_mismatch, object_check_failed
from services.reporting.source.patients import differing_patients
from services.reporting.source.validity import is_valid_value, text_sent

# Rows asked for at once: below every engine's limit of bound parameters.
_CHUNK = 500
_REGULAR = GeometryLimits(model="The report")


@dataclass(frozen=True, slots=True)
class SourceSeries:
    """A source series in slice order, proven to be one regular grid.

    Attributes:
        headers: element k is plane k of the labels: an instance, or a frame or tile of an instance.
        first: the whole data set of the first instance but its pixels, elements still as bytes.
        affine: float64 4x4, (i, j, k, 1) to LPS millimetres.
        slice_spacing_mm: the distance of neighbouring slices, from their positions; the mean
            where the distances differ.
        steps: float64 [k], in units of `slice_spacing_mm`: the thickness that each slice stands
            for, half the way to its neighbours. None where the spacing is even.
    """

    headers: tuple[InstanceHeader, ...]
    first: Dataset
    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    slice_spacing_mm: float
    steps: npt.NDArray[np.float64] | None = None

    @property
    def voxel_volume_mm3(self) -> float:
        """The volume of a voxel: its pixel's area by the distance of the slices.

        A viewer computes the same from our SEG, whose slices lie as far apart; along a tilt too.
        """
        row, column = np.linalg.norm(self.affine[:3, :2], axis=0)
        return float(row * column) * self.slice_spacing_mm

    @property
    def uids(self) -> frozenset[str]:
        """The UIDs of the source that objects of ours quote."""
        quoted = (
            (header.sop_instance_uid, header.series_uid, header.text("FrameOfReferenceUID"))
            for header in self.headers
        )
        return frozenset(uid for each in quoted for uid in each if uid)

    @property
    def slice_thickness_mm(self) -> float | None:
        """SliceThickness of the first slice; None unless the value is one valid number."""
        sent = self.headers[0].attributes.get("SliceThickness")
        if not isinstance(sent, str) or not is_valid_value("DS", sent.strip()):
            return None
        thickness = float(sent)
        return thickness if math.isfinite(thickness) else None

    @property
    def modality(self) -> str:
        """Modality of the series."""
        return str(self.first.get("Modality") or "")


def load_source(job: Job, engine: Engine, store: StudyStore) -> SourceSeries | Withholding:
    """The source series of `job`, from the database and the store.

    Raises:
        JobError: an instance is not registered, belongs to another study or series, or lacks a
            frame.
        StoreError: an instance's file is not there.
    """
    rows: dict[str, tuple[str, InstanceHeader]] = {}
    uids = job.sop_instance_uids
    with engine.connect().execution_options(axial_readonly=True) as connection:
        for start in range(0, len(uids), _CHUNK):
            found = connection.execute(
                select(
                    InstanceRow.sop_instance_uid, InstanceRow.store_key, InstanceRow.header
                ).where(InstanceRow.sop_instance_uid.in_(uids[start : start + _CHUNK]))
            )
            for row in found:
                rows[row.sop_instance_uid] = (row.store_key, InstanceHeader.from_json(row.header))
    missing = [uid for uid in uids if uid not in rows]
    if missing or not uids:
        raise JobError(
            f"Job {job.job_uid} names {len(uids)} instances, {len(missing)} of which are not "
            "registered. Send the series again."
        )
    instances = [rows[uid][1] for uid in dict.fromkeys(uids)]
    for header in instances:
        if (header.study_uid, header.series_uid) != (job.study_uid, job.series_uid):
            raise JobError(
                f"Instance {header.sop_instance_uid} does not belong to series {job.series_uid} "
                f"of study {job.study_uid}."
            )
    headers = _planes(job, instances, store)
    if isinstance(headers, Withholding):
        return headers
    keys = list(dict.fromkeys(rows[uid][0] for uid in uids))
    with store.local(keys) as files:
        try:
            differing = differing_patients(files[key] for key in keys)
            if differing:
                problem = f"its images name different patients: they differ in {_listed(differing)}"
                return object_check_failed("series", problem)
            return source_series(headers, files[keys[0]], _limits(job))
        except StoredObjectError as error:
            return object_check_failed("series", f"of an image of it, {error}")


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _planes(
    job: Job, instances: Sequence[InstanceHeader], store: StudyStore
) -> tuple[InstanceHeader, ...] | Withholding:
    """The header of every plane of the labels, in their order."""
    images = open_stored_images(instances, store)
    if isinstance(images, Refusal):
        return geometry_mismatch(images.sentence)
    by_place = {(image.sop_instance_uid, frame_of(image) or 0): image for image in images}
    frames = job.frames or (0,) * len(job.sop_instance_uids)
    places = list(zip(job.sop_instance_uids, frames, strict=True))
    absent = [place for place in places if place not in by_place]
    if absent:
        raise JobError(f"Job {job.job_uid} names {len(absent)} frames that its instances lack.")
    return tuple(by_place[place] for place in places)


def source_series(
    headers: Sequence[InstanceHeader], first_file: Path, limits: GeometryLimits = _REGULAR
) -> SourceSeries | Withholding:
    """A source series from the headers of its planes and the file of its first instance.

    The geometry is examined here once more, by the gate's own function: what an object says
    about places must not rest on what another process found earlier.

    Args:
        headers: in slice order, as the labels' planes.
        limits: what the model accepts; by default a grid without tilt and with even spacing.

    Raises:
        StoredObjectError: the file is no sound DICOM object, or its head is too long for one.
    """
    geometry = examine_series(headers, limits)
    if isinstance(geometry, Refusal):
        return geometry_mismatch(geometry.sentence)
    order = [(plane.sop_instance_uid, plane.frame) for plane in geometry.planes]
    if order != [(header.sop_instance_uid, frame_of(header)) for header in headers]:
        return geometry_mismatch("the planes of the labels are not in the order of the slices")
    bound = bound_of(whole_attributes(headers[0]))
    first = read_head(first_file, headers[0].transfer_syntax_uid, bound)
    if text_sent(first, "SOPInstanceUID") != headers[0].sop_instance_uid:
        # Its patient would be copied into our objects.
        raise StoredObjectError("its file holds another object")
    return SourceSeries(
        tuple(headers),
        first,
        geometry.shape,
        geometry.affine,
        geometry.slice_spacing_mm,
        None if geometry.evenly_spaced else _steps(geometry),
    )


def _steps(geometry: SeriesGeometry) -> npt.NDArray[np.float64]:
    """Half the way to both neighbours; at the ends, where there is one, the way to that one."""
    ways = np.diff([plane.distance_mm for plane in geometry.planes]) / geometry.slice_spacing_mm
    return (np.append(ways[0], ways) + np.append(ways, ways[-1])) / 2


def _limits(job: Job) -> GeometryLimits:
    """What the gate accepted of the role on whose grid the labels lie.

    How many slices there are, how far apart and over what extent, was the model's question: it
    changes nothing about the places that are reported.
    """
    role = job.manifest.roles[job.layers.grid_role or job.manifest.grid_role]
    return replace(
        limits_of(role, _REGULAR.model),
        min_slices=_REGULAR.min_slices,
        max_slices=_REGULAR.max_slices,
        min_spacing_mm=_REGULAR.min_spacing_mm,
        max_spacing_mm=_REGULAR.max_spacing_mm,
        min_extent_mm=_REGULAR.min_extent_mm,
    )
