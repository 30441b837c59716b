"""What a request describes, and what the answer says of what was looked for."""

from __future__ import annotations

import numpy as np
import pytest
from axial.v1 import reporting_pb2

from models.manifest import Manifest
from models.manifest.roles import Align
from services.common.errors import AxialError
from services.common.manifests import StoredManifests
from services.common.store import manifest_key
from services.reporting.errors import JobError
from services.reporting.messages import job_of, response_of
from tests.builders.reporting import (
    Workplace,
    blobs,
    brain_manifest,
    manifest_text,
    three_segments,
)
from tests.builders.reporting_service import make_request

SHAPE = (7, 12, 10)


def read(place: Workplace, request: reporting_pb2.MakeResultsRequest) -> object:
    """The job that a request describes."""
    return job_of(request, StoredManifests(place.store))


def two_roles() -> Manifest:
    """The brain's model with a role before the one on whose slices its labels lie."""
    manifest = brain_manifest()
    align = Align(to=manifest.grid_role, by="same-frame")
    role = manifest.roles[manifest.grid_role].model_copy(update={"use": "aligned", "align": align})
    return manifest.model_copy(update={"roles": {"earlier": role, **manifest.roles}})


def test_a_request_is_read_as_the_job_that_it_describes(place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    assert read(place, make_request(job)) == job


def test_what_was_left_out_of_a_series_is_said_once(place: Workplace) -> None:
    request = make_request(place.job(blobs(SHAPE), two_roles()))
    (own,) = request.selection
    own.left_out = "Image 900 is no slice."
    request.selection.add(role="earlier", series_uid="1.2", left_out=own.left_out)
    request.selection.add(role="later", series_uid="1.3")
    assert job_of(request, StoredManifests(place.store)).left_out == (own.left_out,)


def test_the_role_that_the_output_names_decides_whose_grid_it_is(place: Workplace) -> None:
    """Not the first of the selection: which role that is, is chance."""
    job = place.job(blobs(SHAPE), two_roles())
    request = make_request(job)
    (own,) = request.selection
    other = reporting_pb2.RoleSelection(role="earlier", series_uid="1.2", sop_instance_uids=["1"])
    request.selection.clear()
    request.selection.extend([other, own])
    assert read(place, request) == job
    request.outputs.clear()
    request.labels_key = job.layers.store_key
    of_before = job_of(request, StoredManifests(place.store))
    assert of_before.series_uid == job.series_uid, "the manifest says it for a caller of before"
    assert of_before.layers.store_key == job.layers.store_key


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"grid_role": "second"}, "has no role 'second'"),
        ({"store_key": "jobs/1.2.3/labels.npy.gz"}, "is not a key of job"),
        ({"kind": "map"}, r"one output of segments; job .* has 'labels' \(map\)"),
    ],
)
def test_an_output_that_does_not_fit_is_refused(
    place: Workplace, changes: dict[str, str], complaint: str
) -> None:
    request = make_request(place.job(blobs(SHAPE)))
    for name, value in changes.items():
        setattr(request.outputs[0], name, value)
    with pytest.raises(JobError, match=complaint):
        read(place, request)


def test_several_outputs_are_refused_by_name(place: Workplace) -> None:
    request = make_request(place.job(blobs(SHAPE)))
    request.outputs.append(reporting_pb2.JobOutput(name="dose", kind="map"))
    with pytest.raises(JobError, match=r"'labels' \(layers\), 'dose' \(map\)"):
        read(place, request)


def test_a_role_without_instances_is_refused(place: Workplace) -> None:
    request = make_request(place.job(blobs(SHAPE)))
    request.selection[0].role = "earlier"
    with pytest.raises(JobError, match="names no instances of role"):
        read(place, request)


def test_the_manifest_is_that_of_the_build_whatever_the_catalogue_holds(place: Workplace) -> None:
    """A model that was upgraded since keeps its earlier segments, codes and ranges."""
    build = "ab" * 32
    identity = brain_manifest().identity.model_copy(update={"version": "0.9.0"})
    manifest = brain_manifest().model_copy(update={"identity": identity})
    StoredManifests(place.store).put(build, manifest_text(manifest))
    request = make_request(place.job(blobs(SHAPE)))
    request.model_digest, request.model_version = build, "0.9.0"
    assert job_of(request, StoredManifests(place.store)).manifest == manifest


def test_a_manifest_that_is_not_there_is_worth_another_attempt(place: Workplace) -> None:
    request = make_request(place.job(blobs(SHAPE)))
    request.model_digest = "cd" * 32
    with pytest.raises(JobError, match=r"build cdcdcdcdcdcd is not in the study store") as missing:
        read(place, request)
    assert missing.value.retryable


def test_a_manifest_of_another_version_is_too(place: Workplace) -> None:
    """A reporting service of that version, which runs beside this one, may take it."""
    request = make_request(place.job(blobs(SHAPE)))
    request.model_digest = "cd" * 32
    place.store.put(manifest_key(request.model_digest), [b"schema: axial.model/v9\n"])
    with pytest.raises(JobError, match="another version of Axial") as unread:
        read(place, request)
    assert unread.value.retryable


def test_labels_that_are_not_those_that_were_stored_are_named_and_asked_for_again(
    place: Workplace,
) -> None:
    job = place.job(blobs(SHAPE))
    place.job(np.zeros(SHAPE, np.uint8))  # other labels under the same key
    with pytest.raises(AxialError, match=job.layers.store_key) as other:
        place.make(job, check_with_dciodvfy=False)
    assert other.value.retryable


def test_what_was_looked_for_is_told_found_or_not(place: Workplace) -> None:
    labels = blobs(SHAPE, (1, 3))
    job = place.job(labels, three_segments())
    answer = response_of(job, place.make(job, check_with_dciodvfy=False))
    told = [(each.output, each.number, each.label, each.voxels) for each in answer.searched]
    assert told == [
        ("labels", 1, "Brain", int((labels == 1).sum())),
        ("labels", 2, "Cerebellum", 0),
        ("labels", 3, "Brainstem", int((labels == 3).sum())),
    ]
    again = response_of(job, place.make(job, check_with_dciodvfy=False))
    assert list(again.searched) == list(answer.searched), "also when the results are there already"


def test_what_was_not_found_has_no_volume_of_zero_but_says_why(place: Workplace) -> None:
    job = place.job(blobs(SHAPE, (1, 3)), three_segments())
    answer = response_of(job, place.make(job, check_with_dciodvfy=False))
    unknown = {each.segment_label: each.why_unknown for each in answer.measurements}
    assert unknown == {
        "Brain": "",
        "Cerebellum": "Cerebellum was looked for and not found.",
        "Brainstem": "",
    }
    assert all(each.value > 0 for each in answer.measurements if not each.why_unknown)
    assert not any(each.HasField("low") or each.HasField("high") for each in answer.measurements)
    assert {(each.output, each.lesion) for each in answer.measurements} == {("labels", 0)}


def test_withheld_results_tell_what_was_found_all_the_same(place: Workplace) -> None:
    labels = blobs(SHAPE)
    labels[0, 0, 0] = 9  # no segment of the model
    job = place.job(labels)
    answer = response_of(job, place.make(job))
    assert answer.withholding.reason == "object_check_failed"
    assert list(answer.searched) == [], "labels that are not understood tell nothing"
