"""Jobs with labels, as the orchestrator leaves them for the reporting service."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from sqlalchemy import Engine

from models.manifest import Code, Manifest, Segment, load_manifest
from services.common.database import migrate, open_database
from services.common.headers import InstanceHeader
from services.common.identity import derived_uid
from services.common.manifests import StoredManifests
from services.common.settings import ReportingSettings
from services.common.store import StudyStore
from services.imaging.geometry import GeometryLimits, SeriesGeometry, examine_series
from services.imaging.labels import labels_key, write_labels
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.interval import with_intervals
from services.reporting.analysis.measure import count_voxels, measure, voxel_histogram
from services.reporting.job import Job, Layers, ModelNumbers
from services.reporting.results import Made, ResultMaker
from services.reporting.source.series import SourceSeries, source_series
from tests.builders.revisions import register_revision
from tests.builders.series import affine_of, headers_of, small_volume, sound_series

CATALOGUE = Path(__file__).resolve().parents[2] / "models" / "catalogue"
RECIPES = CATALOGUE.parent / "recipes"
STARTED = dt.datetime(2024, 1, 31, 15, 4, 5, 678900, tzinfo=dt.timezone(dt.timedelta(hours=1)))

# Directions of i, j, k (columns) in LPS, by what a radiographer calls the series. "flipped" has a
# negative column cosine and slices that run against the usual direction.
ORIENTATIONS: dict[str, NDArray[np.float64]] = {
    "axial": np.eye(3),
    "sagittal": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "coronal": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
    "flipped": np.array([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]),
    "feet-first": np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]),
}


def oblique() -> NDArray[np.float64]:
    """Directions turned about all three axes."""
    a, b, c = 0.31, -0.22, 0.47
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def brain_manifest() -> Manifest:
    """The catalogue's brain extraction."""
    return load_manifest(CATALOGUE / "brain-extraction")


def manifest_text(manifest: Manifest) -> str:
    """A manifest as it lies in the store."""
    return yaml.safe_dump(manifest.model_dump(mode="json", by_alias=True))


def three_segments() -> Manifest:
    """The same model with three structures to look for, one of them with a region."""
    manifest = brain_manifest()
    anatomy = Code(scheme="SCT", value="123037004", meaning="Anatomical Structure")
    segments = (
        *manifest.segments,
        Segment(
            number=2,
            label="Cerebellum",
            category=anatomy,
            type=Code(scheme="SCT", value="113305005", meaning="Cerebellum"),
            region=Code(scheme="SCT", value="12738006", meaning="Brain"),
            colour_cielab=(30000, 40000, 20000),
        ),
        Segment(
            number=3,
            label="Brainstem",
            category=anatomy,
            type=Code(scheme="SCT", value="15926001", meaning="Brainstem"),
            colour_cielab=(50000, 20000, 40000),
        ),
    )
    return manifest.model_copy(update={"segments": segments})


def ensemble_manifest() -> Manifest:
    """A recipe with twelve networks, four segments and a volume interval of each."""
    return load_manifest(RECIPES / "ich-ct")


def numbers_of_members(**of_segments: dict[int, float]) -> dict[str, ModelNumbers]:
    """What its output of numbers may hold: of twelve networks, and what is given of segments."""
    return {"uncertainty": ModelNumbers({"members": 12.0}, of_segments)}


def plausible(manifest: Manifest, otherwise: str, max_ml: float) -> Manifest:
    """The manifest with one plausible range of segment 1, from 0 to `max_ml`."""
    range_ = manifest.findings[0].model_copy(
        update={"segment": 1, "min_ml": 0.0, "max_ml": max_ml, "otherwise": otherwise}
    )
    return manifest.model_copy(update={"findings": (range_,)})


def blobs(shape: tuple[int, int, int], numbers: Iterable[int] = (1,)) -> NDArray[np.uint8]:
    """Labels with one asymmetric blob for each number, so that no flip goes unnoticed.

    uint8 [k, j, i]; the first and last slice stay empty, and each blob has its own slices.
    """
    labels = np.zeros(shape, np.uint8)
    slices, rows, columns = shape
    for place, number in enumerate(numbers):
        k = 1 + place
        labels[k : slices - 1, 1 + place, 2 : columns - 1] = number
        labels[k : k + 2, 2 + place : rows - 1, 3 + place] = number
        labels[k, rows - 1 - place, 1 + place] = number
    return labels


def analysis_of(
    files: list[Path],
    labels: NDArray[np.uint8],
    manifest: Manifest | None = None,
    **job_changes: Any,
) -> Analysis:
    """An analysis of a series on disk with `labels` on its grid."""
    headers, source = source_of(files)
    job = replace(job_of(headers, manifest or brain_manifest()), **job_changes)
    counts = count_voxels(voxel_histogram(labels), job.manifest)
    values = measure(job.manifest, counts, source.voxel_volume_mm3)
    return Analysis(job, source, labels, counts, with_intervals(job, values))


def source_of(files: list[Path]) -> tuple[list[InstanceHeader], SourceSeries]:
    """The headers of a sound series in slice order, and the series."""
    headers = headers_of(files)
    source = source_series(headers, files[0])
    assert isinstance(source, SourceSeries), source
    return headers, source


def series_in(
    folder: Path, orientation: str, shape: tuple[int, int, int] = (7, 12, 10), seed: str = "one"
) -> list[Path]:
    """A sound series in a named orientation, in slice order."""
    directions = oblique() if orientation == "oblique" else ORIENTATIONS[orientation]
    return in_slice_order(sound_series(folder, small_volume(shape, affine_of(directions)), seed))


def in_slice_order(files: list[Path]) -> list[Path]:
    """The files as the geometry gate orders them."""
    by_uid = {
        header.sop_instance_uid: file for header, file in zip(headers_of(files), files, strict=True)
    }
    geometry = examine_series(headers_of(files), GeometryLimits(model="The test"))
    assert isinstance(geometry, SeriesGeometry), geometry
    return [by_uid[plane.sop_instance_uid] for plane in geometry.planes]


def job_of(headers: list[InstanceHeader], manifest: Manifest, revision: int = 1) -> Job:
    """A job on the series of `headers`, which are in slice order."""
    first = headers[0]
    job_uid = derived_uid("test", "job", first.series_uid, revision, manifest.digest)
    return Job(
        job_uid=job_uid,
        study_uid=first.study_uid,
        revision=revision,
        manifest=manifest,
        model_digest=manifest.digest,
        series_uid=first.series_uid,
        sop_instance_uids=tuple(header.sop_instance_uid for header in headers),
        layers=Layers(labels_key(job_uid, "labels"), "labels", manifest.grid_role),
        analysis_started=STARTED,
    )


@dataclass(frozen=True, slots=True)
class Workplace:
    """A database and a store with one registered series, and what makes results of it."""

    engine: Engine
    store: StudyStore
    files: list[Path]
    headers: list[InstanceHeader]

    def job(
        self, labels: NDArray[np.uint8], manifest: Manifest | None = None, revision: int = 1
    ) -> Job:
        """A job whose labels lie in the store."""
        job = job_of(self.headers, manifest or brain_manifest(), revision)
        digest = write_labels(self.store, job.layers.store_key, labels)
        StoredManifests(self.store).put(job.model_digest, manifest_text(job.manifest))
        return replace(job, layers=replace(job.layers, digest=digest))

    def make(self, job: Job, **settings: Any) -> Made:
        """The job's results under the given reporting settings."""
        return ResultMaker(self.engine, self.store, ReportingSettings(**settings)).make(job)


def workplace(folder: Path, files: list[Path], database_url: str = "") -> Workplace:
    """Registers a series as the listener does."""
    engine = open_database(database_url or f"sqlite:///{folder / 'axial.sqlite'}")
    migrate(engine)
    store = StudyStore(folder / "store")
    register_revision(engine, files, store=store)
    return Workplace(engine, store, files, headers_of(files))
