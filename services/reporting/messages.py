"""A request as the job that it describes, and what was made as the answer."""

from __future__ import annotations

import datetime as dt

from axial.v1 import reporting_pb2

from models.manifest import Manifest
from services.common.manifests import ManifestMissing, StoredManifests
from services.common.store import is_of_job
from services.reporting.errors import JobError
from services.reporting.job import Job, Layers, ModelNumbers
from services.reporting.results import Made


def job_of(request: reporting_pb2.MakeResultsRequest, manifests: StoredManifests) -> Job:
    """The job that a request describes.

    Args:
        request: the call.
        manifests: of the builds, under their digests: the catalogue may hold a newer version.

    Raises:
        JobError: the request contradicts itself, its model's manifest or the store.
        StoreError: the store does not answer.
    """
    manifest = _manifest(request, manifests)
    layers = _layers(request, manifest)
    numbers = {each.name: _numbers(each) for each in request.outputs if each.kind == "values"}
    selected = [each for each in request.selection if each.role == layers.grid_role]
    if len(selected) != 1 or not selected[0].sop_instance_uids:
        raise JobError(
            f"Job {request.job_uid} names no instances of role '{layers.grid_role[:64]}', on whose "
            "slices its labels lie."
        )
    return Job(
        job_uid=request.job_uid,
        study_uid=request.study_uid,
        revision=request.revision,
        manifest=manifest,
        model_digest=request.model_digest,
        series_uid=selected[0].series_uid,
        sop_instance_uids=tuple(selected[0].sop_instance_uids),
        layers=layers,
        analysis_started=_moment(request.analysis_started),
        supersedes_job_uid=request.supersedes_job_uid,
        incomplete=request.incomplete,
        left_out=tuple(filter(None, dict.fromkeys(each.left_out for each in request.selection))),
        frames=tuple(selected[0].frames),
        numbers=numbers,
    )


def response_of(job: Job, made: Made) -> reporting_pb2.MakeResultsResponse:
    """What was made of a job, as the answer to the call."""
    response = reporting_pb2.MakeResultsResponse(
        results=[
            reporting_pb2.ResultReference(
                sop_instance_uid=result.sop_instance_uid,
                series_uid=result.series_uid,
                kind=result.kind,
                store_key=result.store_key,
            )
            for result in made.results
        ],
        searched=[
            reporting_pb2.SearchedSegment(
                output=job.layers.name,
                number=count.number,
                label=job.manifest.segment(count.number).label,
                voxels=count.total,
            )
            for count in made.counts
        ],
        # Lesions are not told apart yet: they stay unsaid.
        measurements=[
            reporting_pb2.Measurement(
                output=job.layers.name,
                segment_number=value.segment_number,
                segment_label=value.segment_label,
                name=value.name,
                value=value.value or 0.0,
                low=value.low,
                high=value.high,
                unit=value.unit,
                why_unknown=value.why_unknown,
                remark=made.remarks.get(value.segment_number, ""),
            )
            for value in made.values
        ],
        times=[
            reporting_pb2.ReportingTime(stage=stage, seconds=seconds)
            for stage, seconds in made.seconds.items()
        ],
    )
    if made.withholding is not None:
        response.withholding.CopyFrom(
            reporting_pb2.Withholding(
                reason=made.withholding.reason,
                values={name: str(value) for name, value in made.withholding.values.items()},
            )
        )
    return response


def _manifest(request: reporting_pb2.MakeResultsRequest, manifests: StoredManifests) -> Manifest:
    """The manifest that the job's model was built from, whatever the catalogue holds today.

    The digest is not computed anew: what decides a result has changed with the runtime since some
    build was made, and its manifest stays its own.
    """
    try:
        manifest = manifests.of(request.model_digest)
    except ManifestMissing as error:
        raise JobError(str(error), retryable=True) from error
    named = (request.model_name, request.model_version)
    if named != (manifest.name, manifest.version):
        raise JobError(
            f"The manifest of build {request.model_digest[:12]} is that of {manifest.name} "
            f"{manifest.version}, the labels come from {named[0][:64]} {named[1][:32]}."
        )
    return manifest


def _layers(request: reporting_pb2.MakeResultsRequest, manifest: Manifest) -> Layers:
    """The output that holds the segments."""
    if not request.outputs:  # a caller of before, whose models have one output
        layers = Layers(request.labels_key, grid_role=manifest.grid_role)
    else:
        arrays = [each for each in request.outputs if each.kind != "values"]
        if len(arrays) != 1 or arrays[0].kind != "layers":
            outputs = ", ".join(
                f"'{each.name[:64]}' ({each.kind[:16]})" for each in request.outputs
            )
            raise JobError(
                f"Results are made of one output of segments; job {request.job_uid} has {outputs}."
            )
        (output,) = arrays
        layers = Layers(
            output.store_key,
            name=output.name,
            grid_role=output.grid_role,
            digest=output.digest,
            touching_unmeasured=frozenset(output.touching_unmeasured),
        )
    if layers.grid_role not in manifest.roles:
        raise JobError(f"{manifest.name} has no role '{layers.grid_role[:64]}'.")
    if not is_of_job(layers.store_key, request.job_uid):
        raise JobError(f"'{layers.store_key[:200]}' is not a key of job {request.job_uid}.")
    return layers


def _numbers(output: reporting_pb2.JobOutput) -> ModelNumbers:
    of_segments = {each.name: dict(each.by_segment) for each in output.segment_values}
    return ModelNumbers(dict(output.values), of_segments)


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise JobError(f"analysis_started '{text}' is no RFC 3339 time.") from error
    if moment.tzinfo is None:
        raise JobError(f"analysis_started '{text}' has no offset from UTC.")
    return moment
