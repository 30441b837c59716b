"""What a job asks of the database: counted, so that it does not grow with the study unseen."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from axial.v1 import inference_pb2, reporting_pb2
from sqlalchemy import Engine, event, insert, select

from services.common.database import InstanceRow, JobStageRow, RevisionInstanceRow, SeriesRow
from services.orchestrator import jobs
from services.orchestrator.errors import ModelUnavailable
from services.orchestrator.inference import Inference, Output
from services.orchestrator.sent_volumes import SentVolume
from services.orchestrator.stage_context import StageContext
from services.orchestrator.stages import infer_stage, release_stage, report_stage, select_stage
from tests.builders.catalogue import DIGEST, serve, stage_context
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

# Other series of the study: what a job has nothing to do with.
OTHERS = 3000


@dataclass
class Asked:
    """What went to a database."""

    statements: list[str] = field(default_factory=list[str])
    commits: int = 0
    rows: int = 0


@contextmanager
def asked(engine: Engine) -> Generator[Asked]:
    """Counts statements, commits of transactions that wrote, and headers that were read."""
    seen = Asked()
    wrote = False

    def execute(*arguments: Any) -> None:
        nonlocal wrote
        statement = str(arguments[2]).strip()
        wrote = wrote or statement.startswith(("INSERT", "UPDATE", "DELETE"))
        if not statement.startswith("BEGIN"):
            seen.statements.append(statement)

    def commit(_: Any) -> None:
        nonlocal wrote
        seen.commits += wrote
        wrote = False

    event.listen(engine, "before_cursor_execute", execute)
    event.listen(engine, "commit", commit)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", execute)
        event.remove(engine, "commit", commit)


class Services:
    """Triton and reporting of which everything succeeds."""

    def ensure_loaded(self, model: str) -> None:
        """It is loaded."""

    def infer(
        self,
        model: str,
        request: inference_pb2.InferenceRequest,
        volumes: Mapping[str, SentVolume],
    ) -> Inference:
        labels = np.ones(volumes["image"].shape, np.uint8)
        answer = inference_pb2.InferenceAnswer(model_digest=DIGEST)
        for name in ("coarse", "fine"):
            answer.networks.add(network=name, target="cpu", precision="bf16", seconds=1.0)
        for stage in ("orient", "resample", "intensity", "crop", "postprocess"):
            answer.stages.add(stage=stage, seconds=0.1)
        return Inference((Output("labels", "layers", "image", labels),), answer)

    def make_results(
        self, request: reporting_pb2.MakeResultsRequest
    ) -> reporting_pb2.MakeResultsResponse:
        made = reporting_pb2.MakeResultsResponse()
        made.searched.add(output="labels", number=1, label="Brain", voxels=1)
        made.measurements.add(segment_number=1, segment_label="Brain", name="volume", value=1.0)
        for stage in ("measure", "segmentation", "report", "check"):
            made.times.add(stage=stage, seconds=0.1)
        return made

    def release(self, job_uid: str) -> int:
        return 2


@pytest.fixture
def study(engine: Engine, tmp_path: Path) -> tuple[StageContext, str]:
    """A study of one head and of thousands of other instances in its revision."""
    context = stage_context(engine, tmp_path)
    serve(context)
    services = cast(Any, Services())
    context = replace(context, inference=services, reporting=services)
    study_uid = register_revision(engine, write_head_like(tmp_path / "head"), store=context.store)
    with engine.begin() as connection:
        one = connection.execute(select(InstanceRow.__table__).limit(1)).mappings().one()
        series = connection.execute(select(SeriesRow.__table__)).mappings().one()
        connection.execute(insert(SeriesRow).values({**series, "series_uid": "1.9"}))
        uids = [f"1.9.{number}" for number in range(OTHERS)]
        other = dict(cast(dict[str, Any], one["header"]), series_uid="1.9")
        other["attributes"] = dict(other["attributes"], Modality="CT")
        connection.execute(
            insert(InstanceRow),
            [
                {
                    **one,
                    "sop_instance_uid": uid,
                    "series_uid": "1.9",
                    "header": {**other, "sop_instance_uid": uid},
                }
                for uid in uids
            ],
        )
        connection.execute(
            insert(RevisionInstanceRow),
            [{"study_uid": study_uid, "number": 1, "sop_instance_uid": uid} for uid in uids],
        )
    return context, study_uid


def test_a_job_makes_few_commits_and_reads_its_own_series_alone(
    study: tuple[StageContext, str],
) -> None:
    context, study_uid = study
    engine = context.engine
    to_run = select_stage(context, study_uid, 1).to_run
    ((uid, _),) = to_run
    read: list[int] = []

    def loaded(*_: Any) -> None:
        read.append(1)

    event.listen(InstanceRow, "load", loaded)
    try:
        with asked(engine) as seen:
            assert jobs.begin_job(engine, uid) == 1
            assert infer_stage(context, uid)
            assert report_stage(context, uid)
            release_stage(context, uid)
    finally:
        event.remove(InstanceRow, "load", loaded)
    # Begun, inferred, reported, ended: the times of all parts go with them.
    assert seen.commits == 4
    assert len(seen.statements) <= 40
    assert read == []
    of_headers = [each for each in seen.statements if "instance.header" in each]
    assert len(of_headers) == 1
    with engine.connect() as connection:
        stages = set(connection.scalars(select(JobStageRow.stage)))
    assert {"select", "load", "infer", "infer.labels", "report", "deliver"} <= stages
    assert {"infer.network:1:coarse", "infer.network:2:fine", "report.check"} <= stages


def test_nothing_is_read_or_decoded_while_the_model_is_away(
    study: tuple[StageContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, study_uid = study
    ((uid, _),) = select_stage(context, study_uid, 1).to_run

    def away(model: str) -> None:
        raise ModelUnavailable("Triton does not answer")

    monkeypatch.setattr(context.inference, "ensure_loaded", away)
    with asked(context.engine) as seen:
        for _ in range(3):
            with pytest.raises(ModelUnavailable):
                infer_stage(context, uid)
    assert seen.commits == 0
    assert not any(
        "instance" in each.split("FROM")[-1] for each in seen.statements if "FROM instance" in each
    )
    assert len(seen.statements) <= 3 * 3
