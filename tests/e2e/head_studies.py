"""The demonstration's head as studies of any name, resolution and completeness."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from models.building import fetch_demo_head
from models.building.reference_volumes import read_nifti
from services.cli.demo.head_study import sagittal
from services.common.identity import derived_uid
from services.imaging import SeriesAttributes, Volume, stored_values, write_mr_series
from tests.e2e.stack import CHECKOUT

PATIENT_NAME = "Geheim^Ganz"
PATIENT_ID = "GEHEIM-4711"
BIRTH_DATE = "19630207"


@cache
def head(step: int) -> Volume:
    """The head in sagittal slices, every `step`-th voxel of it."""
    loaded = read_nifti(fetch_demo_head(CHECKOUT / "build" / "cache"))
    whole = sagittal(Volume(loaded.pixels, loaded.affine_lps))
    affine = whole.affine.copy()
    affine[:3, :3] *= step
    array = np.ascontiguousarray(whole.values()[::step, ::step, ::step])
    return Volume(stored_values(array), affine)


def study_uid(name: str) -> str:
    """The Study Instance UID of the study of this name."""
    return derived_uid("e2e", name)


def write_head(
    folder: Path,
    name: str,
    *,
    series: str = "t1",
    step: int = 2,
    number: int = 2,
    description: str = "T1 MPRAGE SAG",
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "OTHER"),
) -> list[Path]:
    """Writes one series of a study and returns its files in slice order."""
    attributes = SeriesAttributes(
        study_uid=study_uid(name),
        series_uid=derived_uid("e2e", name, series),
        frame_of_reference_uid=derived_uid("e2e", name, "frame"),
        patient_name=PATIENT_NAME,
        patient_id=PATIENT_ID,
        patient_birth_date=BIRTH_DATE,
        study_date="20260115",
        study_time="093000",
        study_id="7",
        accession_number="GEHEIM-ACC",
        series_number=number,
        series_description=description,
        body_part_examined="HEAD",
        image_type=image_type,
        mr_acquisition_type="3D",
    )
    return write_mr_series(head(step), folder / name / series, attributes)
