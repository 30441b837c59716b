"""What the workflow's steps do: select and gate, infer, report, release.

Each stage is a function that may run twice. Pixels stay inside a stage; stages hand on UIDs.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from axial.v1 import inference_pb2, reporting_pb2
from sqlalchemy import Engine

from models.manifest import (
    Manifest,
    ModelError,
    load_build_record,
    load_catalogue,
    load_manifest,
)
from services.common.crashpoints import crashpoint
from services.common.database import JobRow, utc_now
from services.common.fates import Refusal, Value, Verdict
from services.common.headers import InstanceHeader
from services.common.incomplete import missing_in_short
from services.common.lifecycle import JobState
from services.common.settings import Settings
from services.common.store import StoreError, StudyStore
from services.common.telemetry import span
from services.imaging import (
    SeriesGeometry,
    Volume,
    examine_series,
    frame_of,
    labels_key,
    labels_on_source,
    limits_of,
    load_volume,
    open_stored_images,
    write_labels,
)
from services.orchestrator import jobs
from services.orchestrator.errors import OrchestratorError
from services.orchestrator.inference import InferenceClient, request_for
from services.orchestrator.reporting_client import ReportingClient
from services.orchestrator.retrying import with_retries
from services.orchestrator.revision import Revision, SeriesOfRevision, read_revision
from services.orchestrator.selection import ModelSelection, OpenImages, digest_of, select_series

# A store that fails over is back within a minute or two.
_STORE_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class StageContext:
    """What stages work with.

    Attributes:
        stopping: is set when the process stops; waits end then.
    """

    settings: Settings
    engine: Engine
    store: StudyStore
    inference: InferenceClient
    reporting: ReportingClient
    stopping: threading.Event = field(default_factory=threading.Event)


def select_stage(context: StageContext, study_uid: str, number: int) -> jobs.RecordedSelection:
    """Stages *select* and *gate*: every series gets a verdict or becomes an input of a job."""
    started = utc_now()
    begun = time.monotonic()
    revision = read_revision(context.engine, study_uid, number)
    with span("orchestrator.select", parent=revision.traceparent, series=len(revision.series)):
        selections: list[tuple[ModelSelection, str]] = []
        open_images = opened_once(context, _STORE_ATTEMPTS)
        for manifest in load_catalogue(context.settings.catalogue_dir):
            selections.append(_select(context, manifest, revision, open_images))
        crashpoint("orchestrator.select.begin")
        recorded = jobs.record_selection(context.engine, revision, selections)
        crashpoint("orchestrator.select.done")
        seconds = time.monotonic() - begun
        for uid, _ in recorded.to_run:
            jobs.record_stage(context.engine, uid, "select", started, seconds)
    return recorded


def opened_once(context: StageContext, attempts: int) -> OpenImages:
    """Opens multi-frame objects and mosaics for the first model that asks, and for no other.

    An object that cannot be read costs its own series only.

    Args:
        context: has the store.
        attempts: how often the store is asked for a series while it says that waiting may help.
    """
    opened: dict[str, Sequence[InstanceHeader] | Verdict] = {}

    def open_images(headers: Sequence[InstanceHeader]) -> Sequence[InstanceHeader] | Verdict:
        nonlocal attempts
        series_uid = headers[0].series_uid
        if series_uid not in opened:
            try:
                opened[series_uid] = with_retries(
                    lambda: open_stored_images(headers, context.store),
                    attempts=attempts,
                    stopping=context.stopping,
                    what="open",
                )
            except (StoreError, OSError) as error:
                opened[series_uid] = _unreadable(error)
                if isinstance(error, StoreError) and error.retryable:
                    # The store was waited for; the study's other series do not wait again.
                    attempts = 1
        return opened[series_uid]

    return open_images


def _unreadable(error: StoreError | OSError) -> Verdict:
    # An operating system's message names the file; its kind is enough.
    kind = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
    problem = f"an object of the series cannot be read ({kind or type(error).__name__})"
    return Verdict("internal_error", {"stage": "select", "problem": problem})


def _select(
    context: StageContext, manifest: Manifest, revision: Revision, open_images: OpenImages
) -> tuple[ModelSelection, str]:
    """What one model chooses; one that is not built, or cannot choose, costs the others nothing."""
    try:
        digest = model_digest(context.settings, manifest)
        return select_series(manifest, revision.series, open_images), digest
    except (ModelError, OrchestratorError) as error:
        values = {"model": manifest.identity.title, "problem": str(error).rstrip(".")}
        verdict = Verdict("model_unavailable", values)
        refused = {series.series_uid: verdict for series in revision.series}
        return ModelSelection(manifest, (), refused), ""


def model_digest(settings: Settings, manifest: Manifest) -> str:
    """The digest of the build that is served.

    Raises:
        ModelError: the model was not built for the target.
    """
    name = manifest.identity.name
    return load_build_record(_repository(settings) / name).digest


def infer_stage(context: StageContext, job_uid: str) -> bool:
    """Stages *load* and *infer*: the labels lie in the store; False when the job has ended."""
    job = jobs.read_job(context.engine, job_uid)
    if job.state != JobState.SELECTED:
        return job.state in (JobState.INFERRED, JobState.REPORTED)
    revision = read_revision(context.engine, job.study_uid, job.revision)
    with span("orchestrator.infer", parent=revision.traceparent, model=job.model_name) as opened:
        with _timed(context, job_uid, "load"):
            inputs = _load_inputs(context, revision, job)
        if isinstance(inputs, Verdict):
            return _ended(context, job_uid, inputs)
        volumes = {role: loaded.volume for role, loaded in inputs.items()}
        crashpoint("orchestrator.infer.begin")
        request = request_for(job_uid, job.model_digest, volumes, opened.traceparent)
        with _timed(context, job_uid, "infer"):
            result = context.inference.infer(job.model_name, request, volumes)
        _record_answer(context, job_uid, result.answer)
        if result.answer.HasField("refusal"):
            return _ended(context, job_uid, _refusal(job, result.answer.refusal))
        with _timed(context, job_uid, "infer.labels"):
            key = labels_key(job_uid)
            # Labels lie on the grid of the first role.
            source = next(iter(inputs.values())).geometry
            write_labels(context.store, key, labels_on_source(result.labels, source))
        crashpoint("orchestrator.infer.done")
    state = jobs.advance_job(context.engine, job_uid, JobState.INFERRED, labels_key=key)
    crashpoint("orchestrator.infer.recorded")
    return state == JobState.INFERRED


def report_stage(context: StageContext, job_uid: str) -> bool:
    """Stage *report*: results are made, checked and registered; False when the job has ended."""
    job = jobs.read_job(context.engine, job_uid)
    if job.state != JobState.INFERRED:
        return job.state == JobState.REPORTED
    revision = read_revision(context.engine, job.study_uid, job.revision)
    with span("orchestrator.report", parent=revision.traceparent, model=job.model_name):
        crashpoint("orchestrator.report.begin")
        with _timed(context, job_uid, "report"):
            response = context.reporting.make_results(_make_request(job, revision))
        for part in response.times:
            _record_part(context, job_uid, f"report.{part.stage}", part.seconds)
        crashpoint("orchestrator.report.done")
    if response.HasField("withholding"):
        held = response.withholding
        return _ended(context, job_uid, Verdict(held.reason, dict(held.values)))
    measurements = [
        {
            "segment_number": item.segment_number,
            "segment_label": item.segment_label,
            "name": item.name,
            "value": item.value,
            "unit": item.unit,
            "remark": item.remark,
        }
        for item in response.measurements
    ]
    state = jobs.advance_job(context.engine, job_uid, JobState.REPORTED, measurements=measurements)
    crashpoint("orchestrator.report.recorded")
    return state == JobState.REPORTED


def release_stage(context: StageContext, job_uid: str) -> None:
    """Stage *deliver*: the results are on every destination's queue, and the job has its fate."""
    job = jobs.read_job(context.engine, job_uid)
    if job.state != JobState.REPORTED:
        return
    revision = read_revision(context.engine, job.study_uid, job.revision)
    if _inputs_changed(revision, job):
        # Other images took the place of some: what was worked on may be of both.
        values = {"newer_revision": revision.number + 1}
        jobs.end_job(context.engine, job_uid, Verdict("newer_revision", values))
        return
    with span("orchestrator.deliver", parent=revision.traceparent, model=job.model_name):
        crashpoint("orchestrator.deliver.begin")
        with _timed(context, job_uid, "deliver"):
            context.reporting.release(job_uid)
        crashpoint("orchestrator.deliver.done")
        state = jobs.end_job(context.engine, job_uid, _processed(context, job))
        crashpoint("orchestrator.job.ended")
    if state == JobState.SUPERSEDED:
        # A newer revision came between our question and our release.
        context.reporting.withdraw([job_uid])


def _inputs_changed(revision: Revision, job: JobRow) -> bool:
    """Whether a job's images are others than those that were selected for it."""
    by_uid = {series.series_uid: series for series in revision.series}
    for role, selected in job.selection.items():
        series = by_uid.get(selected["series_uid"])
        places = list(zip(selected["sop_instance_uids"], selected["frames"], strict=True))
        if series is None or any(uid not in series.data_digests for uid, _ in places):
            return True
        if digest_of(role, series, places) != job.selection_digest:
            return True
    return False


def _repository(settings: Settings) -> Path:
    return settings.triton.repository / settings.triton.target / "repository"


@dataclass(frozen=True, slots=True)
class _Input:
    """The volume of a role, and the places of its slices."""

    volume: Volume
    geometry: SeriesGeometry


def _load_inputs(
    context: StageContext, revision: Revision, job: JobRow
) -> dict[str, _Input] | Verdict:
    inputs: dict[str, _Input] = {}
    manifest = load_manifest(context.settings.catalogue_dir / job.model_name)
    for role, selected in job.selection.items():
        series = _series(revision, selected["series_uid"])
        places = list(zip(selected["sop_instance_uids"], selected["frames"], strict=True))
        images = _selected_images(context, series, set(places))
        if isinstance(images, Refusal):
            return images
        geometry = examine_series(images, limits_of(manifest.roles[role], manifest.identity.title))
        if isinstance(geometry, Refusal):
            raise OrchestratorError(
                f"Series {series.series_uid} passed the gate and now fails it: {geometry.reason}."
            )
        if [(plane.sop_instance_uid, plane.frame or 0) for plane in geometry.planes] != places:
            raise OrchestratorError(f"The slices of series {series.series_uid} changed order.")
        volume = load_volume(geometry, images, context.store)
        if isinstance(volume, Refusal):
            return volume
        inputs[role] = _Input(volume, geometry)
    return inputs


def _selected_images(
    context: StageContext, series: SeriesOfRevision, places: set[tuple[str, int]]
) -> list[InstanceHeader] | Refusal:
    """The planes of a job's volume among those of its series."""
    uids = {uid for uid, _ in places}
    headers = [header for header in series.headers if header.sop_instance_uid in uids]
    images = open_stored_images(headers, context.store)
    if isinstance(images, Refusal):
        return images
    return [image for image in images if (image.sop_instance_uid, frame_of(image) or 0) in places]


def _series(revision: Revision, series_uid: str) -> SeriesOfRevision:
    for series in revision.series:
        if series.series_uid == series_uid:
            return series
    raise OrchestratorError(f"Series {series_uid} is not in revision {revision.number}.")


def _record_answer(
    context: StageContext, job_uid: str, answer: inference_pb2.InferenceAnswer
) -> None:
    for number, network in enumerate(answer.networks, start=1):
        _record_part(context, job_uid, f"infer.network:{number}:{network.network}", network.seconds)
    for part in answer.stages:
        _record_part(context, job_uid, f"infer.{part.stage}", part.seconds)


def _record_part(context: StageContext, job_uid: str, stage: str, seconds: float) -> None:
    jobs.record_stage(context.engine, job_uid, stage, utc_now(), seconds)


def _refusal(job: JobRow, refusal: inference_pb2.PipelineRefusal) -> Verdict:
    return Verdict(refusal.reason, {"model": job.model_name, **refusal.values})


def _ended(context: StageContext, job_uid: str, verdict: Verdict) -> bool:
    jobs.end_job(context.engine, job_uid, verdict)
    return False


def _make_request(job: JobRow, revision: Revision) -> reporting_pb2.MakeResultsRequest:
    return reporting_pb2.MakeResultsRequest(
        job_uid=job.job_uid,
        study_uid=job.study_uid,
        revision=job.revision,
        model_name=job.model_name,
        model_version=job.model_version,
        model_digest=job.model_digest,
        selection=[
            reporting_pb2.RoleSelection(
                role=role,
                series_uid=selected["series_uid"],
                sop_instance_uids=selected["sop_instance_uids"],
                frames=selected["frames"],
            )
            for role, selected in job.selection.items()
        ],
        labels_key=job.labels_key or "",
        analysis_started=_local(job.created_at),
        supersedes_job_uid=job.supersedes_job_uid or "",
        incomplete=missing_in_short(revision.incomplete),
    )


def _local(time_utc: dt.datetime) -> str:
    return time_utc.astimezone().isoformat()


def _processed(context: StageContext, job: JobRow) -> Verdict:
    manifest = load_manifest(context.settings.catalogue_dir / job.model_name)
    model = manifest.identity.title
    if not jobs.has_segmentation(context.engine, job.job_uid):
        looked_for = ", ".join(segment.label for segment in manifest.segments)
        return Verdict("looked_for_not_found", {"model": model, "segments": looked_for})
    measured = ", ".join(
        f"{item['segment_label']} {item['value']:.1f} {item['unit']}"
        for item in job.measurements or []
    )
    values: dict[str, Value] = {"model": model, "found": measured or "see the overlay"}
    # A segment with several measurements has one remark; of a job of before there is none.
    remarks = dict.fromkeys(item.get("remark", "") for item in job.measurements or [])
    remarks |= dict.fromkeys(selected.get("left_out", "") for selected in job.selection.values())
    remarks.pop("", None)
    if remarks:
        return Verdict("segmented_flagged", {**values, "remarks": " ".join(remarks)})
    return Verdict("segmented", values)


@contextmanager
def _timed(context: StageContext, job_uid: str, stage: str) -> Generator[None]:
    started = utc_now()
    begun = time.monotonic()
    yield
    jobs.record_stage(context.engine, job_uid, stage, started, time.monotonic() - begun)
