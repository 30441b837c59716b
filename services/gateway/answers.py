"""What the API answers: pydantic models, documented by their fields. No patient data."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

STUDY_UID = "2.25.301735816338404711839460245163820195284"
SERIES_UID = "2.25.88731040582264911637250918273645091827"
JOB_UID = "2.25.40218840193377462910485736251908374651"
MOST_NAMED = 100
_MOST_INSTANCES = 10_000_000
_Uid = Annotated[str, StringConstraints(pattern=r"^[0-9.]{1,64}$")]
_FEW = Field(max_length=10_000)
_WHEN = "2026-01-15T09:30:12.250000Z"


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Problem(_Answer):
    """An error as a problem detail (RFC 9457)."""

    type: str = "about:blank"
    """A stable code of the kind of problem."""
    title: str
    """The kind of problem in words."""
    status: int
    """The HTTP status."""
    detail: str
    """What happened here, and what to do."""
    instance: str
    """The path that was asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "study-not-found",
                    "title": "Not found",
                    "status": 404,
                    "detail": f"No study {STUDY_UID} was received.",
                    "instance": f"/api/v1/studies/{STUDY_UID}",
                }
            ]
        }
    )


class SeriesFate(_Answer):
    """How a series ended for a model."""

    series_uid: str
    series_number: str | None
    modality: str | None
    instances: int
    images: int
    """Frames of multi-frame objects counted one by one; objects without pixels are none."""
    model: str
    revision: int
    fate: str | None
    """processed, not_wanted, refused, withheld, failed or superseded; null while under way."""
    reason: str | None
    """The reason's code; each has a page in docs/reasons."""
    sentence: str
    """The reason in a radiographer's words."""
    remedy: str
    """What a person can do about it; empty where nothing needs doing."""
    values: dict[str, Any]
    """The values that led to it."""
    decided_at: dt.datetime | None
    images_removed_at: dt.datetime | None
    """When retention removed the series' images; null while they are in the study store."""
    images_removed_because: str | None
    """age, size or space: the limit that asked for it."""
    incomplete: str
    """What was known to be missing of the study when this revision was frozen, as a sentence;
    empty when nothing was."""
    conflicts: list[str]
    """Sentences on other bytes that came under the SOP Instance UIDs of this series."""
    job_uid: str | None = None
    """The job that read the series; a series that two jobs of a model read has two fates."""
    not_delivered: list[str] = []
    """Sentences on results that a destination does not have and will not get by itself: what it
    refused, and what refers to that."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "series_uid": SERIES_UID,
                    "series_number": "5",
                    "modality": "MR",
                    "instances": 175,
                    "images": 175,
                    "model": "brain-extraction",
                    "revision": 1,
                    "fate": "refused",
                    "reason": "missing_slice",
                    "sentence": "At least one slice is missing: between slices 17 and 18 the "
                    "distance is 2.0 mm, elsewhere 1.0 mm.",
                    "remedy": "Send the series again; the late slices start a new revision by "
                    "themselves.",
                    "values": {"before": 17, "after": 18, "gap_mm": 2.0, "spacing_mm": 1.0},
                    "decided_at": _WHEN,
                    "images_removed_at": None,
                    "images_removed_because": None,
                    "incomplete": "",
                    "conflicts": [],
                }
            ]
        }
    )


class Deployment(_Answer):
    """A build of a model on a target, and whether studies are given to it."""

    model: str
    version: str
    digest: str
    target: str
    precision: str
    state: str
    """loading, serving, draining, retired or failed."""
    share: int
    """Percent of the studies that it is given, of those that serve the model."""
    problem: str | None
    requested_at: dt.datetime
    changed_at: dt.datetime


class Delivery(_Answer):
    """One result on its way to one destination."""

    delivery_uid: str
    sop_instance_uid: str
    kind: str
    destination: str
    state: str
    attempts: int
    last_error: str | None
    next_attempt_at: dt.datetime
    delivered_at: dt.datetime | None
    sent_again: int
    """How often a person had it sent again."""


class Stage(_Answer):
    """How long a stage of a job took."""

    stage: str
    started_at: dt.datetime
    seconds: float


class Result(_Answer):
    """An object that a job made."""

    sop_instance_uid: str
    series_uid: str
    kind: str
    store_key: str
    size_bytes: int


class Job(_Answer):
    """One model's work on one selection."""

    job_uid: str
    revision: int
    model: str
    model_version: str
    model_digest: str
    state: str
    progress: float | None
    """The share of the networks' passes that is done, of a job that a model works on for long."""
    reason: str | None
    sentence: str | None
    series: dict[str, str]
    """Role -> series UID."""
    measurements: list[dict[str, Any]]
    numbers: dict[str, dict[str, Any]]
    """Output of the model -> name -> a number, or one by each segment's number."""
    stages: list[Stage]
    results: list[Result]
    deliveries: list[Delivery]
    created_at: dt.datetime
    ended_at: dt.datetime | None


class Conflict(_Answer):
    """Other bytes that came under the SOP Instance UIDs of instances that are registered."""

    study_uid: str
    """As they were sent."""
    series_uid: str
    kept_study_uid: str
    """Of the instances that have their UIDs."""
    kept_series_uid: str
    count: int
    """Instances of which other bytes came."""
    differs: list[str]
    """patient, uids, place, pixels, attributes: what differs."""
    among_own: bool
    """True when several images of one series share a UID: the series is refused by name."""
    state: str
    """open; kept (the first stays); taking, taken (what came later took its place); replaced (what
    an instance was before); removed (with the study's images)."""
    waits: bool
    """Whether somebody has to decide, or what was decided is not done yet."""
    peers: list[str]
    """Calling AE titles of those who sent them."""
    first_received_at: dt.datetime
    last_received_at: dt.datetime
    sop_instance_uids: list[str]
    """Of the first hundred of them."""
    sentence: str
    """In a radiographer's words."""


class StudySummary(_Answer):
    """A study in one line."""

    study_uid: str
    state: Literal["receiving", "working", "delivering", "done"]
    """receiving: instances are arriving; working: jobs are under way; delivering: results are on
    a queue; done: nothing is left to do."""
    revision: int
    """The newest frozen revision; 0 while there is none."""
    series: int
    instances: int
    fates: dict[str, int]
    """Number of series by fate, over all models, in the newest revision."""
    conflicts: int
    """Instances of which other bytes came under the same UID, and nobody decided yet."""
    first_received_at: dt.datetime
    last_received_at: dt.datetime

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "study_uid": STUDY_UID,
                    "state": "done",
                    "revision": 1,
                    "series": 2,
                    "instances": 179,
                    "fates": {"processed": 1, "refused": 1},
                    "conflicts": 0,
                    "first_received_at": _WHEN,
                    "last_received_at": _WHEN,
                }
            ]
        }
    )


class Revision(_Answer):
    """A frozen set of a study's instances."""

    number: int
    trigger: str
    """counted, wanted, told or quiet: what said that the study may be taken as it is."""
    instances: int
    last_received_at: dt.datetime
    frozen_at: dt.datetime
    incomplete: str
    """What was known to be missing then, as a sentence; empty when nothing was."""


class StudyDetail(StudySummary):
    """A study with everything that became of it."""

    revisions: list[Revision]
    fate: list[SeriesFate]
    conflict_events: list[Conflict]
    """Other bytes that came under known UIDs, in this study or with its instances."""
    jobs: list[Job]
    """Of all revisions, the newest first."""


class StudyPage(_Answer):
    """Studies, the most recently received first."""

    studies: list[StudySummary]
    next_offset: int | None
    """Where the next page begins; null on the last one."""


class Completed(_Answer):
    """Answer to "this study is complete"."""

    study_uid: str
    revision: int
    frozen_now: bool
    """False when nothing new had arrived since that revision."""
    instances: int
    held: bool
    """True while a series is being received: the next revision is frozen when that has ended."""


class Expectation(_Answer):
    """What a study consists of, as far as somebody knows."""

    instances: Annotated[int, Field(ge=0, le=_MOST_INSTANCES)] = 0
    """Instances of the whole study; 0: as many as the series have together."""
    series: Annotated[dict[_Uid, Annotated[int, Field(ge=1, le=_MOST_INSTANCES)]], _FEW] = {}
    """Series UID -> its instances; as many series as are known."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"instances": 179, "series": {SERIES_UID: 175}}]},
    )


class Expected(_Answer):
    """Answer to "this is what the study consists of"."""

    study_uid: str
    received: int
    """Instances that are there."""
    revision: int
    """The newest revision; 0 while there is none."""
    frozen_now: bool
    """True when all of it was there already, and work begins."""


class Count(_Answer):
    """How many were put back on their queue."""

    count: int


class Resent(Count):
    """How many leave again, and how many do not."""

    delivered: int
    """Left alone because they were delivered; `delivered=true` sends those again too."""
    superseded: int
    """Left alone because a newer result replaces them."""
    held: int = 0
    """Held back: the destination lacks what they refer to, and gets them when it has that."""


class Health(_Answer):
    """Whether the gateway lives, and what keeps it from being ready."""

    status: str
    problems: list[str]
