"""A job as reporting is asked about it, and reporting's answer as the job keeps it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from axial.v1 import reporting_pb2

from services.common.incomplete import missing_in_short
from services.orchestrator.jobs import Job, JobOutput, Measured


def make_request(
    job: Job, outputs: Sequence[JobOutput], incomplete: Mapping[str, Any] | None
) -> reporting_pb2.MakeResultsRequest:
    """Asks for a job's results.

    Args:
        job: the job.
        outputs: what its model made.
        incomplete: what was known to be missing of the revision.
    """
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
                series_uid=selected.series_uid,
                sop_instance_uids=[uid for uid, _ in selected.places],
                frames=[frame for _, frame in selected.places],
                left_out=selected.left_out,
            )
            for role, selected in job.inputs.items()
        ],
        # Reporting of before reads this one alone.
        labels_key=next((each.store_key for each in outputs if each.kind == "layers"), ""),
        outputs=[_output(each) for each in outputs],
        analysis_started=_local(job.created_at),
        supersedes_job_uid=job.supersedes_job_uid or "",
        incomplete=missing_in_short(incomplete),
    )


def measured(message: reporting_pb2.Measurement) -> Measured:
    """A measurement as the database keeps it."""
    return Measured(
        output=message.output,
        segment_number=message.segment_number,
        segment_label=message.segment_label,
        lesion=message.lesion,
        name=message.name,
        value=None if message.why_unknown else message.value,
        low=message.low if message.HasField("low") else None,
        high=message.high if message.HasField("high") else None,
        unit=message.unit,
        why_unknown=message.why_unknown,
        remark=message.remark,
    )


def with_searched(output: JobOutput, response: reporting_pb2.MakeResultsResponse) -> JobOutput:
    """An output with its `found_voxels`: number of each searched segment -> voxels found."""
    if output.kind != "layers":
        return output
    if not response.searched:
        # Reporting of before says it by the kinds of its results.
        segmented = any(each.kind == "SEG" for each in response.results)
        return replace(output, numbers={**output.numbers, "found_voxels": {"?": int(segmented)}})
    found = {
        str(each.number): each.voxels
        for each in response.searched
        if each.output in ("", output.name)
    }
    return replace(output, numbers={**output.numbers, "found_voxels": found})


def found_anything(outputs: Sequence[JobOutput]) -> bool:
    """Whether a job has more to report than that no segment was found."""
    return any(
        output.kind == "map" or any(output.numbers.get("found_voxels", {}).values())
        for output in outputs
    )


def _output(output: JobOutput) -> reporting_pb2.JobOutput:
    message = reporting_pb2.JobOutput(
        name=output.name,
        kind=output.kind,
        grid_role=output.grid_role,
        store_key=output.store_key,
        digest=output.digest,
    )
    if output.kind == "values":
        for name, number in output.numbers.items():
            if isinstance(number, Mapping):
                by_segment = {int(segment): value for segment, value in number.items()}
                message.segment_values.add(name=name, by_segment=by_segment)
            else:
                message.values[name] = number
    elif output.kind == "map":
        message.slope = output.numbers.get("slope", 1.0)
        message.intercept = output.numbers.get("intercept", 0.0)
    else:
        message.touching_unmeasured.extend(output.numbers.get("touching_unmeasured", []))
    return message


def _local(time_utc: dt.datetime) -> str:
    return time_utc.astimezone().isoformat()
