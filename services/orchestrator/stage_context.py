"""What stages work with, and how they open images."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine

from services.common.fates import Verdict
from services.common.headers import InstanceHeader
from services.common.manifests import StoredManifests
from services.common.settings import Settings
from services.common.store import StoreError, StudyStore
from services.imaging import open_stored_images
from services.orchestrator.considering import OpenImages
from services.orchestrator.inference import InferenceClient
from services.orchestrator.reporting_client import ReportingClient
from services.orchestrator.retrying import with_retries

# A store that fails over is back within a minute or two.
STORE_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class StageContext:
    """What stages work with.

    Attributes:
        manifests: of the builds that jobs are pinned to.
        stopping: is set when the process stops; waits end then.
    """

    settings: Settings
    engine: Engine
    store: StudyStore
    inference: InferenceClient
    reporting: ReportingClient
    manifests: StoredManifests
    stopping: threading.Event = field(default_factory=threading.Event)


def opened_once(context: StageContext, attempts: int) -> OpenImages:
    """Opens multi-frame objects and mosaics for the first model that asks, and for no other.

    An object that cannot be read costs its own series only.

    Args:
        context: has the store.
        attempts: how often the store is asked for a series whose error is retryable.
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
    problem = f"an object of the series cannot be read ({kind or 'the disk does not give it'})"
    return Verdict("internal_error", {"stage": "select", "problem": problem})
