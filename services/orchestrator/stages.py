"""What the workflow's steps do: select and gate, infer, report, release.

Each stage is a function that may run twice. Pixels stay inside a stage; stages hand on UIDs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from axial.v1 import inference_pb2, reporting_pb2
from numpy.typing import NDArray

from models.manifest import triton_model_name
from services.common.crashpoints import crashpoint
from services.common.database import utc_now
from services.common.fates import Fate, Refusal, Verdict, read_verdict
from services.common.headers import InstanceHeader
from services.common.lifecycle import JobState
from services.common.sentences import Value
from services.common.telemetry import span
from services.imaging import (
    SeriesGeometry,
    examine_series,
    frame_of,
    labels_key,
    labels_on_source,
    limits_of,
    load_volume,
    open_stored_images,
    segments_at_unmeasured,
    write_labels,
)
from services.orchestrator import jobs
from services.orchestrator.considering import OpenImages
from services.orchestrator.errors import OrchestratorError
from services.orchestrator.inference import Output, request_for
from services.orchestrator.jobs import Job, JobOutput
from services.orchestrator.offering import Offer, Unavailable, offers_for
from services.orchestrator.ordering import urgency
from services.orchestrator.recording import RecordedSelection, record_selection
from services.orchestrator.reporting_messages import (
    found_anything,
    make_request,
    measured,
    with_searched,
)
from services.orchestrator.revision import (
    Revision,
    read_digests,
    read_incomplete,
    read_revision,
    read_series,
)
from services.orchestrator.selection import ModelSelection, digest_of, select_series
from services.orchestrator.sent_volumes import SentVolume, sent
from services.orchestrator.stage_context import STORE_ATTEMPTS, StageContext, opened_once
from services.orchestrator.stage_times import StageTimes

# The deadline that is set is for models that take so long on two quiet cores, or less.
_USUAL_S = 30.0


def select_stage(context: StageContext, study_uid: str, number: int) -> RecordedSelection:
    """Stages *select* and *gate*: every series gets a verdict or becomes an input of a job."""
    revision = read_revision(context.engine, study_uid, number)
    times = StageTimes()
    with span("orchestrator.select", parent=revision.traceparent, series=len(revision.series)):
        with times.timed("select"):
            open_images = opened_once(context, STORE_ATTEMPTS)
            offers = offers_for(context.engine, context.settings, context.manifests, study_uid)
            selections = [_select(offer, revision, open_images) for offer in offers]
        crashpoint("orchestrator.select.begin")
        recorded = record_selection(context.engine, revision, selections, times.all())
        crashpoint("orchestrator.select.done")
    return recorded


def _select(
    offer: Offer | Unavailable, revision: Revision, open_images: OpenImages
) -> tuple[ModelSelection, str]:
    """What one model chooses; one that is not available costs the others nothing."""
    if isinstance(offer, Offer):
        return select_series(offer.manifest, revision.series, open_images), offer.digest
    verdict = Verdict("model_unavailable", {"model": offer.title, "problem": offer.problem})
    refused = {series.series_uid: verdict for series in revision.series}
    return ModelSelection(offer.model, None, (), refused), ""


def infer_stage(context: StageContext, job_uid: str) -> bool:
    """Stages *load* and *infer*: the outputs lie in the store; False when the job has ended.

    The model is loaded before the pixels are read: without a model, nothing is decoded in vain.
    """
    job = jobs.read_job(context.engine, job_uid)
    if job.state != JobState.SELECTED:
        return job.state in (JobState.INFERRED, JobState.REPORTED)
    times = StageTimes()
    triton_name = triton_model_name(job.model_name, job.model_digest)
    with span("orchestrator.infer", parent=job.traceparent, model=job.model_name) as opened:
        context.inference.ensure_loaded(triton_name)
        with times.timed("load"):
            inputs = _load_inputs(context, job)
        if isinstance(inputs, Verdict):
            return _ended(context, job_uid, inputs, times)
        volumes = {role: each.sent for role, each in inputs.items()}
        crashpoint("orchestrator.infer.begin")
        request = request_for(
            job_uid,
            job.model_digest,
            job.grid_role,
            volumes,
            opened.traceparent,
            priority=urgency(jobs.priority_of(context.engine, job_uid)),
            deadline=utc_now() + dt.timedelta(seconds=_patience_s(context, job)),
        )
        with times.timed("infer"):
            result = context.inference.infer(triton_name, request, volumes)
        _add_times(times, result.answer)
        if result.answer.HasField("refusal"):
            refused = _refusal(job, result.answer.refusal)
            return _ended(context, job_uid, refused, times)
        with times.timed("infer.labels"):
            outputs = [_store(context, job_uid, each, inputs) for each in result.outputs]
        crashpoint("orchestrator.infer.done")
    state = jobs.advance_job(
        context.engine, job_uid, JobState.INFERRED, times=times.all(), outputs=outputs
    )
    crashpoint("orchestrator.infer.recorded")
    return state == JobState.INFERRED


def _patience_s(context: StageContext, job: Job) -> float:
    """How long an inference may take: as set, and longer where the model says it takes long."""
    typical_s = context.manifests.of(job.model_digest).resources.typical_seconds or 0.0
    return context.settings.triton.infer_deadline_s * max(typical_s / _USUAL_S, 1.0)


def report_stage(context: StageContext, job_uid: str) -> bool:
    """Stage *report*: results are made, checked and registered; False when the job has ended."""
    job = jobs.read_job(context.engine, job_uid)
    if job.state != JobState.INFERRED:
        return job.state == JobState.REPORTED
    times = StageTimes()
    with span("orchestrator.report", parent=job.traceparent, model=job.model_name):
        crashpoint("orchestrator.report.begin")
        incomplete = read_incomplete(context.engine, job.study_uid, job.revision)
        outputs = jobs.outputs_of(context.engine, job_uid)
        with times.timed("report"):
            response = context.reporting.make_results(make_request(job, outputs, incomplete))
        for part in response.times:
            times.add(f"report.{part.stage}", part.seconds)
        crashpoint("orchestrator.report.done")
    if response.HasField("withholding"):
        held = response.withholding
        return _ended(context, job_uid, _sent_verdict(held, Fate.WITHHELD), times)
    state = jobs.advance_job(
        context.engine,
        job_uid,
        JobState.REPORTED,
        times=times.all(),
        outputs=[with_searched(each, response) for each in outputs],
        measurements=[measured(each) for each in response.measurements],
    )
    crashpoint("orchestrator.report.recorded")
    return state == JobState.REPORTED


def release_stage(context: StageContext, job_uid: str) -> None:
    """Stage *deliver*: the results are on every destination's queue, and the job has its fate."""
    job = jobs.read_job(context.engine, job_uid)
    if job.state != JobState.REPORTED:
        return
    if _inputs_changed(context, job):
        # Other images took the place of some: what was worked on may be of both.
        values = {"newer_revision": job.revision + 1}
        jobs.end_job(context.engine, job_uid, Verdict("newer_revision", values))
        return
    times = StageTimes()
    with span("orchestrator.deliver", parent=job.traceparent, model=job.model_name):
        crashpoint("orchestrator.deliver.begin")
        with times.timed("deliver"):
            context.reporting.release(job_uid)
        crashpoint("orchestrator.deliver.done")
        state = jobs.end_job(context.engine, job_uid, _processed(context, job), times.all())
        crashpoint("orchestrator.job.ended")
    if state == JobState.SUPERSEDED:
        # A newer revision came between our question and our release.
        context.reporting.withdraw([job_uid])


def _inputs_changed(context: StageContext, job: Job) -> bool:
    """Whether a job's images are others than those that were selected for it."""
    by_series = read_digests(context.engine, job.study_uid, job.revision, job.series_uids())
    digests = {uid: digest for each in by_series.values() for uid, digest in each.items()}
    inputs = {role: (each.series_uid, each.places) for role, each in job.inputs.items()}
    for series_uid, places in inputs.values():
        of_series = by_series.get(series_uid, {})
        if any(uid not in of_series for uid, _ in places):
            return True
    return digest_of(inputs, digests) != job.selection_digest


@dataclass(frozen=True, slots=True)
class _Input:
    """The volume of a role as it is sent, the places of its slices, and what was not measured."""

    sent: SentVolume
    geometry: SeriesGeometry
    padding: NDArray[np.bool_] | None


def _load_inputs(context: StageContext, job: Job) -> dict[str, _Input] | Verdict:
    inputs: dict[str, _Input] = {}
    manifest = context.manifests.of(job.model_digest)
    headers = read_series(context.engine, job.study_uid, job.revision, job.series_uids())
    for role, selected in job.inputs.items():
        if selected.series_uid not in headers:
            raise OrchestratorError(
                f"Series {selected.series_uid} is not in revision {job.revision}."
            )
        images = _selected_images(context, headers[selected.series_uid], set(selected.places))
        if isinstance(images, Refusal):
            return images
        geometry = examine_series(images, limits_of(manifest.roles[role], manifest.identity.title))
        if isinstance(geometry, Refusal):
            raise OrchestratorError(
                f"Series {selected.series_uid} passed the gate and now fails it: {geometry.reason}."
            )
        places = [(plane.sop_instance_uid, plane.frame or 0) for plane in geometry.planes]
        if places != list(selected.places):
            raise OrchestratorError(f"The slices of series {selected.series_uid} changed order.")
        volume = load_volume(geometry, images, context.store)
        if isinstance(volume, Refusal):
            return volume
        as_sent = sent(role, volume, geometry.frame_of_reference_uid)
        inputs[role] = _Input(as_sent, geometry, volume.padding)
    return inputs


def _selected_images(
    context: StageContext, of_series: Sequence[InstanceHeader], places: set[tuple[str, int]]
) -> list[InstanceHeader] | Refusal:
    """The planes of a job's volume among those of its series."""
    uids = {uid for uid, _ in places}
    headers = [header for header in of_series if header.sop_instance_uid in uids]
    images = open_stored_images(headers, context.store)
    if isinstance(images, Refusal):
        return images
    return [image for image in images if (image.sop_instance_uid, frame_of(image) or 0) in places]


def _store(
    context: StageContext, job_uid: str, output: Output, inputs: Mapping[str, _Input]
) -> JobOutput:
    """Puts an output's array into the store, on the slices of its role; numbers need no place."""
    if output.array is None:
        return JobOutput(output.name, output.kind, "", "", "", output.numbers)
    key = labels_key(job_uid, output.name)
    on_grid = inputs[output.grid_role]
    labels = labels_on_source(output.array, on_grid.geometry)
    padding = on_grid.padding
    if padding is not None:
        padding = labels_on_source(padding.view(np.uint8), on_grid.geometry).view(np.bool_)
    touching = segments_at_unmeasured(labels, padding)
    digest = write_labels(context.store, key, labels)
    numbers = {"touching_unmeasured": sorted(touching)}
    return JobOutput(output.name, output.kind, output.grid_role, key, digest, numbers)


def _add_times(times: StageTimes, answer: inference_pb2.InferenceAnswer) -> None:
    for number, network in enumerate(answer.networks, start=1):
        times.add(f"infer.network:{number}:{network.network}", network.seconds)
    for part in answer.stages:
        times.add(f"infer.{part.stage}", part.seconds)


def _refusal(job: Job, refusal: inference_pb2.PipelineRefusal) -> Verdict:
    return _sent_verdict(refusal, Fate.REFUSED, model=job.model_name)


def _sent_verdict(
    sent_by: inference_pb2.PipelineRefusal | reporting_pb2.Withholding, fate: Fate, **more: Value
) -> Verdict:
    """A refusal of another service as a verdict; one of a newer version is shown as it is.

    A reason that is none of a refusal stays out: a job never ends well by being refused.
    """
    values: dict[str, Value] = {**more, **sent_by.values}
    read = read_verdict(sent_by.reason, values, fate)
    if read.fate in (Fate.REFUSED, Fate.WITHHELD, Fate.FAILED):
        return read
    problem = f"it was refused for the reason '{sent_by.reason}', which is none"
    return Verdict("internal_error", {"stage": "infer", "problem": problem})


def _ended(context: StageContext, job_uid: str, verdict: Verdict, times: StageTimes) -> bool:
    jobs.end_job(context.engine, job_uid, verdict, times.all())
    return False


def _processed(context: StageContext, job: Job) -> Verdict:
    manifest = context.manifests.of(job.model_digest)
    model = manifest.identity.title
    measurements = jobs.measurements_of(context.engine, job.job_uid)
    # A segment with several measurements has one remark.
    remarks = dict.fromkeys(item.remark for item in measurements)
    if not found_anything(jobs.outputs_of(context.engine, job.job_uid)):
        looked_for = ", ".join(segment.label for segment in manifest.segments)
        values: dict[str, Value] = {"model": model, "segments": looked_for}
        return _flagged("looked_for_not_found", "not_found_flagged", values, remarks)
    numbers = ", ".join(_in_short(item) for item in measurements if item.value is not None)
    values = {"model": model, "found": numbers or "see the overlay"}
    remarks |= dict.fromkeys(selected.left_out for selected in job.inputs.values())
    return _flagged("segmented", "segmented_flagged", values, remarks)


def _flagged(
    plain: str, flagged: str, values: Mapping[str, Value], remarks: Mapping[str, None]
) -> Verdict:
    """A verdict for one of two reasons: there are sentences that a reader has to see, or none."""
    told = " ".join(filter(None, remarks))
    return Verdict(flagged, {**values, "remarks": told}) if told else Verdict(plain, values)


def _in_short(item: jobs.Measured) -> str:
    """A measurement in a few words: "Oedema 12.3 mL (10.1 to 14.0)"."""
    interval = ""
    if item.low is not None and item.high is not None:
        interval = f" ({item.low:.1f} to {item.high:.1f})"
    return f"{item.segment_label} {item.value:.1f} {item.unit}{interval}"
