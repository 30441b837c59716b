"""Every route with the action that it needs: the one place where that is said.

A route that is not in the table is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Action(StrEnum):
    """What a request does.

    OPEN tells nothing of any study and needs no token; probes and Prometheus have none.
    """

    OPEN = "open"
    READ = "read"
    ACT = "act"


# (method, path as declared) -> action
ROUTES: Mapping[tuple[str, str], Action] = MappingProxyType(
    {
        ("GET", "/healthz"): Action.OPEN,
        ("GET", "/readyz"): Action.OPEN,
        ("GET", "/metrics"): Action.OPEN,
        ("GET", "/openapi.json"): Action.OPEN,
        ("GET", "/docs"): Action.OPEN,
        ("GET", "/docs/oauth2-redirect"): Action.OPEN,
        ("GET", "/redoc"): Action.OPEN,
        ("GET", "/api/v1/studies"): Action.READ,
        ("GET", "/api/v1/studies/{study_uid}"): Action.READ,
        ("GET", "/api/v1/studies/{study_uid}/fate"): Action.READ,
        ("GET", "/api/v1/series/{series_uid}/fate"): Action.READ,
        ("GET", "/api/v1/models"): Action.READ,
        ("GET", "/api/v1/conflicts"): Action.READ,
        ("POST", "/api/v1/conflicts/resolve"): Action.ACT,
        ("POST", "/api/v1/studies/{study_uid}/complete"): Action.ACT,
        ("POST", "/api/v1/studies/{study_uid}/expectation"): Action.ACT,
        ("POST", "/api/v1/studies/{study_uid}/retry"): Action.ACT,
        ("POST", "/api/v1/deliveries/resend"): Action.ACT,
    }
)
