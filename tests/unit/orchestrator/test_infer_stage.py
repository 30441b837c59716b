"""Stages load and infer on real scans: the right volume goes to the network, labels come back.

The network is a threshold, so that what it must find is known on the source's own slices.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pydicom
import pytest
import yaml
from axial.v1 import inference_pb2
from sqlalchemy import Engine

from models.manifest import Manifest, load_manifest
from services.common.database import utc_now
from services.common.manifests import StoredManifests
from services.common.settings import Settings
from services.common.store import StudyStore
from services.imaging import Volume, open_stored_images
from services.imaging.labels import labels_key, read_labels
from services.orchestrator import jobs
from services.orchestrator.inference import Inference, Output
from services.orchestrator.recording import record_selection
from services.orchestrator.revision import read_revision
from services.orchestrator.selection import select_series
from services.orchestrator.sent_volumes import SentVolume
from services.orchestrator.stage_context import StageContext
from services.orchestrator.stages import infer_stage
from tests.builders.revisions import register_revision
from tests.builders.series import sound_series

CATALOGUE = Path(__file__).parents[3] / "models" / "catalogue"
DIGEST = "d" * 64


class Threshold:
    """Finds what is above a value, on the grid that it gets."""

    def __init__(self, above: float) -> None:
        self.above = above
        self.seen: list[Volume] = []
        self.deadlines: list[dt.datetime] = []

    def infer(
        self,
        model: str,
        request: inference_pb2.InferenceRequest,
        volumes: Mapping[str, SentVolume],
    ) -> Inference:
        assert (model, request.grid_role) == (f"brain-extraction--{'d' * 12}", "image")
        (sent,) = volumes.values()
        self.seen.append(sent.volume)
        self.deadlines.append(dt.datetime.fromisoformat(request.deadline))
        found = (sent.volume.values() > self.above).astype(np.uint8)
        output = Output("labels", "layers", "image", found)
        return Inference((output,), inference_pb2.InferenceAnswer(model_digest=DIGEST))

    def ensure_loaded(self, model: str) -> None:
        """It is always there."""


class Place:
    """A study with one scan, and what stages work with."""

    def __init__(self, engine: Engine, folder: Path, network: Threshold) -> None:
        self.engine, self.network = engine, network
        self.store = StudyStore(folder / "store")
        self.catalogue = folder / "catalogue"

    def job_on(self, files: list[Path], manifest: Manifest) -> str:
        """A job of the model on the files' study."""
        study_uid = register_revision(self.engine, files, store=self.store)
        revision = read_revision(self.engine, study_uid, 1)
        selection = select_series(
            manifest, revision.series, lambda headers: open_stored_images(headers, self.store)
        )
        assert selection.verdicts == {}
        text = (self.catalogue / "brain-extraction" / "model.yaml").read_text()
        StoredManifests(self.store).put(DIGEST, text)
        recorded = record_selection(self.engine, revision, [(selection, DIGEST)])
        ((job_uid, _),) = recorded.to_run
        return job_uid

    def infer(self, job_uid: str) -> bool:
        """Runs the stage."""
        context = StageContext(
            settings=Settings(catalogue_dir=self.catalogue),
            engine=self.engine,
            store=self.store,
            inference=cast(Any, self.network),
            reporting=cast(Any, None),
            manifests=StoredManifests(self.store),
        )
        return infer_stage(context, job_uid)

    def model(self, modality: str, *conditions: dict[str, Any], **accepts: Any) -> Manifest:
        """The catalogue's model, wanting something else."""
        written = yaml.safe_load((CATALOGUE / "brain-extraction" / "model.yaml").read_text())
        wants = {"attribute": "Modality", "any_of": [modality], "why": "test"}
        role = written["roles"]["image"]
        role.update(selector=[wants, *conditions], prefer=[], gate={"accepts": accepts})
        folder = self.catalogue / "brain-extraction"
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(yaml.safe_dump(written))
        return load_manifest(folder)


@pytest.mark.parametrize(("typical_s", "waited_s"), [(2.0, 300.0), (45.0, 450.0)])
def test_a_model_that_says_that_it_takes_long_is_waited_for(
    engine: Engine, tmp_path: Path, typical_s: float, waited_s: float
) -> None:
    place = Place(engine, tmp_path, Threshold(300.0))
    manifest = place.model("MR")
    file = place.catalogue / "brain-extraction" / "model.yaml"
    written = yaml.safe_load(file.read_text())
    written["resources"]["typical_seconds"] = typical_s
    file.write_text(yaml.safe_dump(written))
    job_uid = place.job_on(sound_series(tmp_path / "series"), manifest)
    before = utc_now()
    assert place.infer(job_uid)
    allowed = dt.timedelta(seconds=waited_s)
    assert before + allowed <= place.network.deadlines[0] <= utc_now() + allowed


def test_labels_of_a_tilted_uneven_head_come_back_on_its_slices(
    engine: Engine, scan: Any, tmp_path: Path
) -> None:
    place = Place(engine, tmp_path, Threshold(300.0))
    manifest = place.model("CT", gantry_tilt=True, uneven_spacing=True)
    files = sorted(scan("ge-ct-head-tilted").rglob("*.dcm"))
    job_uid = place.job_on(files, manifest)
    assert place.infer(job_uid)
    (volume,) = place.network.seen
    assert volume.instances == ()
    slices = sorted(map(pydicom.dcmread, files), key=lambda data: data.ImagePositionPatient[2])
    truth = np.stack([data.pixel_array * data.RescaleSlope > 300 for data in slices])
    labels = read_labels(place.store, labels_key(job_uid, "labels"), truth.shape)
    assert isinstance(labels, np.ndarray)
    # A threshold of interpolated values differs from one of the values at the edges of bone only.
    overlap = 2 * np.logical_and(labels, truth).sum() / (labels.sum() + truth.sum())
    assert overlap > 0.9


def test_the_wanted_echo_of_an_enhanced_field_map_is_what_the_network_gets(
    engine: Engine, scan: Any, tmp_path: Path
) -> None:
    place = Place(engine, tmp_path, Threshold(200.0))
    late = {"attribute": "EchoTime", "at_least": 4.0, "why": "test"}
    magnitude = {"attribute": "ImageType", "none_of": ["P"], "why": "test"}
    manifest = place.model("MR", late, magnitude)
    (file,) = scan("philips-mr-fieldmap-enhanced").rglob("*.dcm")
    job_uid = place.job_on([file], manifest)
    assert place.infer(job_uid)
    source = pydicom.dcmread(file)
    wanted = [
        (frame.PlanePositionSequence[0].ImagePositionPatient[2], number, frame)
        for number, frame in enumerate(source.PerFrameFunctionalGroupsSequence)
        if frame.MREchoSequence[0].EffectiveEchoTime == pytest.approx(4.6)
        and frame.MRImageFrameTypeSequence[0].ComplexImageComponent == "MAGNITUDE"
    ]
    wanted.sort(key=lambda each: each[0])
    slope = wanted[0][2].PixelValueTransformationSequence[0].RescaleSlope
    truth = source.pixel_array[[number for _, number, _ in wanted]] * float(slope) > 200
    labels = read_labels(place.store, labels_key(job_uid, "labels"), truth.shape)
    np.testing.assert_array_equal(labels, truth)
    job = jobs.read_job(engine, job_uid)
    assert [frame for _, frame in job.inputs["image"].places] == [n + 1 for _, n, _ in wanted]


def test_the_first_time_point_of_a_mosaic_series_is_read_where_a_model_says_so(
    engine: Engine, scan: Any, tmp_path: Path
) -> None:
    place = Place(engine, tmp_path, Threshold(100.0))
    manifest = place.model("MR", several_volumes="first")
    files = sorted(scan("siemens-mr-mosaic-jpeg2000").rglob("*.dcm"))
    job_uid = place.job_on(files, manifest)
    assert place.infer(job_uid)
    (volume,) = place.network.seen
    assert volume.array.shape == (36, 86, 86)
    first = min(map(pydicom.dcmread, files), key=lambda data: data.AcquisitionNumber)
    assert set(volume.instances) == {first.SOPInstanceUID}


@pytest.mark.parametrize(
    ("above", "touching"), [(1200.0, []), (300.0, [1])], ids=["bone", "headrest"]
)
def test_what_reaches_the_round_field_of_view_of_a_scanner_is_kept_with_the_labels(
    engine: Engine, scan: Any, tmp_path: Path, above: float, touching: list[int]
) -> None:
    """The scan is padded by its scanner; dense bone ends within, the headrest is cut off."""
    place = Place(engine, tmp_path, Threshold(above))
    manifest = place.model("CT", gantry_tilt=True, uneven_spacing=True)
    job_uid = place.job_on(sorted(scan("ge-ct-head-tilted").rglob("*.dcm")), manifest)
    assert place.infer(job_uid)
    (volume,) = place.network.seen
    assert volume.padding is not None
    (output,) = jobs.outputs_of(engine, job_uid)
    assert output.numbers["touching_unmeasured"] == touching
