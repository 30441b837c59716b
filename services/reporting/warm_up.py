"""Makes the first result as fast as the others.

The libraries read their tables of attributes, modules and codes when they are first used, which
takes a second. Here a series of two small slices goes through all writers at the start of the
service; nothing of it is kept.
"""

from __future__ import annotations

import datetime as dt
import gc
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from models.manifest import ModelError, load_catalogue
from services.common.headers import InstanceHeader
from services.common.identity import derived_uid
from services.common.telemetry import get_logger
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.measure import count_voxels, voxel_histogram
from services.reporting.job import Job, Layers
from services.reporting.kinds.kind import Order
from services.reporting.kinds.registry import KINDS
from services.reporting.source.series import SourceSeries

_MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"

_log = get_logger("reporting")


def warm_up(catalogue_dir: Path) -> None:
    """Writes and forgets a result of every kind for the first model in the catalogue."""
    try:
        manifests = load_catalogue(catalogue_dir)
    except ModelError as error:
        _log.warning("catalogue_unreadable", problem=str(error))
        return
    if not manifests:
        return
    source = _source()
    job = Job(
        job_uid=derived_uid("warm up"),
        study_uid=source.headers[0].study_uid,
        revision=1,
        manifest=manifests[0],
        model_digest=manifests[0].digest,
        series_uid=source.headers[0].series_uid,
        sop_instance_uids=tuple(header.sop_instance_uid for header in source.headers),
        layers=Layers(""),
        analysis_started=dt.datetime(2000, 1, 1, tzinfo=dt.UTC),
    )
    labels = np.ones(source.shape, np.uint8)
    counts = count_voxels(voxel_histogram(labels), job.manifest)
    analysis = Analysis(job, source, labels, counts, ())
    for kind in KINDS:
        kind.write(analysis, Order())
    # What was read stays for good: the collector need not walk through it while results are made.
    gc.collect()
    gc.freeze()


def _source() -> SourceSeries:
    headers = tuple(_header(k) for k in range(2))
    first = Dataset()
    first.StudyInstanceUID = headers[0].study_uid
    first.Modality = "MR"
    return SourceSeries(headers, first, (2, 4, 4), np.eye(4), 1.0)


def _header(k: int) -> InstanceHeader:
    return InstanceHeader(
        sop_instance_uid=derived_uid("warm up", "instance", k),
        sop_class_uid=_MR_IMAGE_STORAGE,
        series_uid=derived_uid("warm up", "series"),
        study_uid=derived_uid("warm up", "study"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        attributes={
            "FrameOfReferenceUID": derived_uid("warm up", "frame"),
            "ImagePositionPatient": ["0", "0", str(k)],
            "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
            "PixelSpacing": ["1", "1"],
            "SliceThickness": "1",
            "Rows": "4",
            "Columns": "4",
        },
        pixel_offset=None,
        pixel_length=None,
    )
