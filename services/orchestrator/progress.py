"""How far jobs have come that their models work on: asked of Triton, written where people look.

A model that works for minutes tells by a metric what share of its passes is done
(`models.runtime.progress_metric`). Work of a second is never asked about.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, update

from models.manifest import PROGRESS_METRIC
from services.common.database import JobRow
from services.common.lifecycle import JobState
from services.common.settings import TritonSettings
from services.common.telemetry import get_logger
from services.orchestrator.inference import InferenceClient
from services.orchestrator.periodic import PeriodicThread

__all__ = ["ProgressWatch", "read_progress", "write_progress"]

_log = get_logger("orchestrator")

EVERY_S = 2.0
_ANSWERS_WITHIN_S = 1.0
# Triton's own metrics are some tens of kilobytes.
_MOST_BYTES = 4 << 20


class ProgressWatch(PeriodicThread):
    """Writes down how far the jobs have come, while a job of this worker is with a model.

    Args:
        engine: the database.
        inference: knows whether a job is with a model.
        settings: where Triton's metrics are.
        every_s: how often it looks.
    """

    def __init__(
        self,
        engine: Engine,
        inference: InferenceClient,
        settings: TritonSettings,
        every_s: float = EVERY_S,
    ) -> None:
        super().__init__("progress-watch", every_s, failed="progress_not_written")
        self._engine = engine
        self._inference = inference
        self._settings = settings
        self._answered = True

    def _begin(self) -> None:
        """Nothing is to be done before the first round."""

    def _round(self) -> None:
        if not self._inference.is_at_work():
            return
        try:
            shares = read_progress(self._settings)
        except OSError as error:
            # Work goes on without; it is said once.
            if self._answered:
                _log.warning("progress_not_read", problem=error.strerror or str(error))
            self._answered = False
            return
        self._answered = True
        write_progress(self._engine, shares)


def read_progress(settings: TritonSettings) -> Mapping[str, float]:
    """Return the share that is done, 0 to 1, of each job that tells it, by the job's UID.

    Raises:
        OSError: Triton does not answer.
    """
    host = settings.grpc_address.rpartition(":")[0]
    connection = http.client.HTTPConnection(
        host.strip("[]"), settings.metrics_port, timeout=_ANSWERS_WITHIN_S
    )
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read(_MOST_BYTES).decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise OSError(f"Triton's metrics: {error}") from error
    finally:
        connection.close()
    # Triton's other metrics are none of ours to read.
    own = "\n".join(line for line in text.splitlines() if PROGRESS_METRIC in line)
    return {
        sample.labels["job"]: min(max(sample.value, 0.0), 1.0)
        for family in text_string_to_metric_families(own + "\n")
        for sample in family.samples
        if sample.name == PROGRESS_METRIC and "job" in sample.labels
    }


def write_progress(engine: Engine, shares: Mapping[str, float]) -> None:
    """Write down how far jobs have come that are with a model; of others nothing is written."""
    if not shares:
        return
    with engine.begin() as connection:
        for job_uid, share in shares.items():
            connection.execute(
                update(JobRow)
                .where(JobRow.job_uid == job_uid, JobRow.state == JobState.SELECTED)
                .values(progress=share)
            )
