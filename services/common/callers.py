"""Who may ask what: the list of methods that each component may call.

A method that is not in the list is called by nobody; a component that is not named for a method
is refused. Triton's certificate is good for no call at all: what runs inside Triton is third-party
weights, and has nothing to ask of anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_NOBODY: frozenset[str] = frozenset()

# Full method name -> components that may call it.
CALLERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "/axial.v1.Intake/CompleteStudy": frozenset({"gateway"}),
        "/axial.v1.Intake/ExpectStudy": frozenset({"gateway"}),
        "/axial.v1.Intake/ResolveConflicts": frozenset({"gateway"}),
        "/axial.v1.Orchestrator/BeginRevision": frozenset({"listener"}),
        "/axial.v1.Orchestrator/ExamineStudy": frozenset({"listener"}),
        "/axial.v1.Orchestrator/RetryStudy": frozenset({"gateway"}),
        "/axial.v1.Reporting/MakeResults": frozenset({"orchestrator"}),
        "/axial.v1.Reporting/ReleaseResults": frozenset({"orchestrator"}),
        "/axial.v1.Reporting/WithdrawResults": frozenset({"orchestrator"}),
        "/axial.v1.Reporting/Resend": frozenset({"gateway"}),
    }
)


def may_call(component: str | None, method: str) -> bool:
    """Whether a component (None: nobody we know) may call a method, named in full."""
    return component in CALLERS.get(method, _NOBODY)
