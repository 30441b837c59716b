"""The demonstration's study: a whole head, skull and face included, as a classic MR series."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.building import fetch_demo_head
from models.building.reference_volumes import read_nifti
from services.common.identity import derived_uid
from services.imaging import SeriesAttributes, Volume, stored_values, write_mr_series


def write_demo_study(folder: Path, cache: Path) -> list[Path]:
    """Writes the demonstration's study into `folder` and returns its files.

    The head is an average of several volunteers (pydeface, MIT), so the patient is nobody. The
    volume is cut into sagittal slices, as scanners acquire it.
    """
    head = read_nifti(fetch_demo_head(cache))
    whole = sagittal(Volume(head.pixels, head.affine_lps))
    volume = Volume(stored_values(whole.values()), whole.affine)
    attributes = SeriesAttributes(
        study_uid=derived_uid("demo", "study"),
        series_uid=derived_uid("demo", "series"),
        frame_of_reference_uid=derived_uid("demo", "frame of reference"),
        patient_name="Demonstration^Head",
        patient_id="DEMO-1",
        patient_sex="O",
        study_id="1",
        study_date="20260115",
        study_time="093000",
        study_description="MR head",
        accession_number="DEMO1",
        series_number=2,
        series_description="T1 MPRAGE SAG",
        protocol_name="T1 MPRAGE SAG",
        body_part_examined="HEAD",
        patient_position="HFS",
        scanning_sequence=("GR",),
        sequence_variant=("MP",),
        mr_acquisition_type="3D",
        manufacturer="Axial demonstration",
        manufacturer_model_name="Average head",
    )
    return write_mr_series(volume, folder, attributes)


def sagittal(volume: Volume) -> Volume:
    """The same volume with its slices along the patient's left-right axis.

    Rows go from anterior to posterior, columns from head to foot, slices from right to left or
    left to right as the source has them: the axes are permuted and flipped, nothing is resampled.
    """
    towards = np.abs(volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0))
    axis_of = [int(np.argmax(towards[world])) for world in range(3)]  # world x, y, z -> i, j, k
    i_axis, j_axis, k_axis = axis_of[1], axis_of[2], axis_of[0]
    array = volume.values().transpose(2 - k_axis, 2 - j_axis, 2 - i_axis)
    affine = volume.affine[:, [i_axis, j_axis, k_axis, 3]]
    if affine[2, 1] > 0:  # j must run from head to foot
        affine = affine.copy()
        affine[:3, 3] += affine[:3, 1] * (array.shape[1] - 1)
        affine[:3, 1] *= -1
        array = array[:, ::-1]
    if affine[1, 0] < 0:  # i must run from anterior to posterior
        affine = affine.copy()
        affine[:3, 3] += affine[:3, 0] * (array.shape[2] - 1)
        affine[:3, 0] *= -1
        array = array[:, :, ::-1]
    return Volume(np.ascontiguousarray(array), affine)
