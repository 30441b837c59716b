"""Lifecycles as transition tables: revisions, jobs, deliveries, conflicts and deployments.

Allowed pairs are data. A stored state is changed only through `require`, and the tests walk every
pair, allowed and forbidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from services.common.errors import AxialError

_S = TypeVar("_S", bound=StrEnum)


class LifecycleError(AxialError):
    """A change of state that the table does not allow."""


class RevisionState(StrEnum):
    """A frozen revision, from the listener's point of view."""

    FROZEN = "frozen"
    ANNOUNCED = "announced"


class JobState(StrEnum):
    """One model on one selection of one revision."""

    SELECTED = "selected"
    INFERRED = "inferred"
    REPORTED = "reported"
    PROCESSED = "processed"
    REFUSED = "refused"
    WITHHELD = "withheld"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """One result on its way to one destination."""

    PENDING = "pending"
    SENDING = "sending"
    WAITING = "waiting"
    HELD = "held"
    COMMITTING = "committing"
    COMMITTED = "committed"
    DELIVERED = "delivered"
    DEAD = "dead"
    WITHDRAWN = "withdrawn"


class DeploymentState(StrEnum):
    """A build of a model on a target."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"


class ConflictState(StrEnum):
    """Other bytes under a known SOP Instance UID."""

    OPEN = "open"
    TAKING = "taking"
    KEPT = "kept"
    TAKEN = "taken"
    REPLACED = "replaced"
    REMOVED = "removed"


_C = ConflictState
_R, _J, _D = RevisionState, JobState, DeliveryState

REVISION_TRANSITIONS: Mapping[RevisionState, frozenset[RevisionState]] = MappingProxyType(
    {_R.FROZEN: frozenset({_R.ANNOUNCED}), _R.ANNOUNCED: frozenset()}
)

JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        _J.SELECTED: frozenset({_J.INFERRED, _J.REFUSED, _J.FAILED, _J.SUPERSEDED}),
        _J.INFERRED: frozenset({_J.REPORTED, _J.WITHHELD, _J.FAILED, _J.SUPERSEDED}),
        _J.REPORTED: frozenset({_J.PROCESSED, _J.FAILED, _J.SUPERSEDED}),
        _J.PROCESSED: frozenset({_J.SUPERSEDED}),
        _J.REFUSED: frozenset({_J.SUPERSEDED}),
        _J.WITHHELD: frozenset({_J.SUPERSEDED}),
        _J.FAILED: frozenset({_J.SUPERSEDED, _J.SELECTED}),
        _J.SUPERSEDED: frozenset(),
    }
)

DELIVERY_TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = MappingProxyType(
    {
        # HELD: it refers to a result that is dead at this destination, and follows when the
        # destination has that after all.
        _D.PENDING: frozenset({_D.SENDING, _D.WITHDRAWN, _D.HELD}),
        # SENDING -> PENDING: the sender died; what it had under way is taken up again.
        _D.SENDING: frozenset(
            {_D.DELIVERED, _D.WAITING, _D.DEAD, _D.PENDING, _D.HELD, _D.COMMITTING}
        ),
        _D.WAITING: frozenset({_D.SENDING, _D.WITHDRAWN, _D.DEAD, _D.HELD}),
        _D.HELD: frozenset({_D.PENDING, _D.WITHDRAWN}),
        # COMMITTING: the destination has it and is asked to commit itself to keeping it (PS3.4 J).
        # No code goes there yet. DELIVERED: it never answered; PENDING: it has lost it.
        _D.COMMITTING: frozenset({_D.COMMITTED, _D.DELIVERED, _D.PENDING, _D.DEAD}),
        _D.COMMITTED: frozenset({_D.PENDING}),
        # DELIVERED -> PENDING: a person has it sent again, because the destination lost it.
        _D.DELIVERED: frozenset({_D.PENDING}),
        _D.DEAD: frozenset({_D.PENDING, _D.WITHDRAWN}),
        _D.WITHDRAWN: frozenset(),
    }
)

# States of a delivery in which its destination has the result.
ARRIVED = (_D.DELIVERED, _D.COMMITTING, _D.COMMITTED)

CONFLICT_TRANSITIONS: Mapping[ConflictState, frozenset[ConflictState]] = MappingProxyType(
    {
        # KEPT: the first stays the instance; TAKING: the other one is to be, TAKEN: it is;
        # REPLACED: what the instance was before; REMOVED: gone with its study's images.
        _C.OPEN: frozenset({_C.KEPT, _C.TAKING, _C.REMOVED}),
        _C.TAKING: frozenset({_C.TAKEN}),
        _C.KEPT: frozenset({_C.TAKING, _C.REMOVED}),
        _C.TAKEN: frozenset({_C.REPLACED, _C.REMOVED}),
        _C.REPLACED: frozenset({_C.REMOVED}),
        _C.REMOVED: frozenset(),
    }
)


_P = DeploymentState

DEPLOYMENT_TRANSITIONS: Mapping[DeploymentState, frozenset[DeploymentState]] = MappingProxyType(
    {
        _P.LOADING: frozenset({_P.SERVING, _P.FAILED, _P.RETIRED}),
        # DRAINING: no new study is given to it, and its open jobs end; RETIRED: it is unloaded.
        _P.SERVING: frozenset({_P.DRAINING}),
        _P.DRAINING: frozenset({_P.SERVING, _P.RETIRED}),
        _P.RETIRED: frozenset({_P.LOADING}),
        _P.FAILED: frozenset({_P.LOADING, _P.RETIRED}),
    }
)


def read_job_state(stored: str) -> JobState:
    """The state of a job as it was written down.

    A state that newer code invented is that code's to go on with: this code lets the job alone, as
    one that counts no more.
    """
    return JobState(stored) if stored in set(JobState) else JobState.SUPERSEDED


def require(transitions: Mapping[_S, frozenset[_S]], current: _S, wanted: _S, subject: str) -> None:
    """Raises `LifecycleError` unless `subject` may go from `current` to `wanted`.

    Staying in the same state is allowed: steps may run twice.
    """
    if wanted != current and wanted not in transitions[current]:
        raise LifecycleError(f"{subject} is {current} and cannot become {wanted}.")
