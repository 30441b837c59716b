"""From a model's answer with numbers to the fate's sentence: database, report, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from axial.v1 import inference_pb2, reporting_pb2
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from services.common.database import FateRow
from services.common.fates import read_verdict
from services.common.settings import ReportingSettings
from services.orchestrator import jobs
from services.orchestrator.inference import Inference, Output, numbers_of
from services.orchestrator.sent_volumes import SentVolume
from services.orchestrator.stage_context import StageContext
from services.orchestrator.stages import infer_stage, release_stage, report_stage, select_stage
from services.reporting.messages import job_of, response_of
from services.reporting.results import ResultMaker
from tests.builders.catalogue import MODEL, serve, stage_context
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

# The head's voxels are cubes of 5 mm.
VOXEL_ML = 0.125


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Five networks that find a bright block together; one finds a fifth less, one a half more."""

    found: int
    disagreement: float

    def ensure_loaded(self, model: str) -> None:
        """It is always there."""

    def infer(
        self,
        model: str,
        request: inference_pb2.InferenceRequest,
        volumes: Mapping[str, SentVolume],
    ) -> Inference:
        (sent,) = volumes.values()
        labels = np.zeros(sent.volume.array.shape, np.uint8)
        labels.reshape(-1)[_block(labels.shape)[: self.found]] = 1
        whole = self.found * VOXEL_ML
        answer = inference_pb2.InferenceAnswer(model_digest=request.model_digest)
        values = answer.outputs.add(name="uncertainty", kind="values", values={"members": 5.0})
        for name, number in {
            "volume_ml": whole,
            "volume_low_ml": 0.8 * whole,
            "volume_high_ml": 1.5 * whole or 40.0,
            "members_finding": 2.0,
            "disagreement": self.disagreement,
        }.items():
            values.segment_values.add(name=name, by_segment={1: number})
        outputs = (
            Output("labels", "layers", "image", labels),
            Output("uncertainty", "values", "", None, numbers_of(values)),
        )
        return Inference(outputs, answer)


def _block(shape: tuple[int, ...]) -> Any:
    """Places away from the edges, so that nothing but the numbers is worth a remark."""
    inside = np.zeros(shape, bool)
    inside[3:-3, 3:-3, 3:-3] = True
    return np.flatnonzero(inside)


@dataclass(frozen=True, slots=True)
class Reporting:
    """Reporting in this process, message by message."""

    context: StageContext

    def make_results(
        self, request: reporting_pb2.MakeResultsRequest
    ) -> reporting_pb2.MakeResultsResponse:
        sent = reporting_pb2.MakeResultsRequest.FromString(request.SerializeToString())
        settings = ReportingSettings(check_with_dciodvfy=False)
        job = job_of(sent, self.context.manifests)
        made = ResultMaker(self.context.engine, self.context.store, settings).make(job)
        return response_of(job, made)

    def release(self, job_uid: str) -> int:
        return 1


def told(
    engine: Engine, folder: Path, ensemble: Ensemble, otherwise: str
) -> tuple[str, str, jobs.Measured | None]:
    """The reason and the sentence of the fate, and what was measured."""
    context = stage_context(engine, folder)
    _write_ensemble(context.settings.catalogue_dir / MODEL / "model.yaml", otherwise)
    serve(context)
    context = replace(
        context, inference=cast(Any, ensemble), reporting=cast(Any, Reporting(context))
    )
    study_uid = register_revision(engine, write_head_like(folder / "head"), store=context.store)
    ((job_uid, _),) = select_stage(context, study_uid, 1).to_run
    assert infer_stage(context, job_uid)
    (kept,) = (each for each in jobs.outputs_of(engine, job_uid) if each.kind == "values")
    assert kept.numbers["disagreement"] == {"1": ensemble.disagreement}
    assert (kept.store_key, kept.grid_role) == ("", "")
    if report_stage(context, job_uid):
        release_stage(context, job_uid)
    with Session(engine) as session:
        fate = session.scalars(select(FateRow)).one()
        sentence = read_verdict(fate.reason, fate.reason_values).sentence
    measured = jobs.measurements_of(engine, job_uid)
    return fate.reason, sentence, measured[0] if measured else None


def _write_ensemble(file: Path, otherwise: str) -> None:
    """The catalogue's model as if its networks were five members of one step."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    of = data["outputs"][0]["of"]
    data["plan"].append(
        {"do": "measure-uncertainty", "in": of, "interval": {"kind": "extremes"}, "out": "unsure"}
    )
    data["outputs"].append({"name": "uncertainty", "kind": "values", "of": "unsure"})
    data["measurements"][0]["interval"] = "uncertainty"
    limit = {"kind": "disagreement", "of": "uncertainty", "number": "disagreement", "segment": 1,
             "above": 0.3, "otherwise": otherwise, "why": "a test"}  # fmt: skip
    data["findings"] = [limit]
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


def test_members_that_agree_give_the_volume_an_interval(engine: Engine, tmp_path: Path) -> None:
    reason, sentence, measured = told(engine, tmp_path, Ensemble(400, 0.1), "withhold")
    assert reason == "segmented"
    assert "Brain 50.0 mL (40.0 to 75.0)" in sentence
    assert measured is not None
    assert (measured.low, measured.high) == (pytest.approx(40.0), pytest.approx(75.0))


def test_members_that_disagree_are_told_in_the_fate(engine: Engine, tmp_path: Path) -> None:
    reason, sentence, _ = told(engine, tmp_path, Ensemble(400, 0.44), "flag")
    assert reason == "segmented_flagged"
    assert "The 5 networks disagree about Brain: disagreement 0.44, at most 0.3" in sentence


def test_members_that_disagree_hold_a_result_back_where_the_model_says_so(
    engine: Engine, tmp_path: Path
) -> None:
    reason, sentence, _ = told(engine, tmp_path, Ensemble(400, 0.44), "withhold")
    assert reason == "members_disagree"
    assert "The 5 networks of the model disagree about Brain: disagreement 0.44" in sentence


def test_what_only_some_members_find_is_told_though_nothing_was_found(
    engine: Engine, tmp_path: Path
) -> None:
    reason, sentence, measured = told(engine, tmp_path, Ensemble(0, 0.7), "flag")
    assert reason == "not_found_flagged"
    assert "looked for Brain in this series and found nothing" in sentence
    assert "2 of them, each alone, do, up to 40.0 mL" in sentence
    assert measured is not None
    assert measured.value is None
    assert measured.high == pytest.approx(40.0)


def test_nothing_found_without_disagreement_is_as_before(engine: Engine, tmp_path: Path) -> None:
    reason, _, _ = told(engine, tmp_path, Ensemble(0, 0.0), "flag")
    assert reason == "looked_for_not_found"
