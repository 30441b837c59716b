"""Progress as a metric of Triton's: the one way out of a model before its answer.

`axial_job_progress{job="2.25..."}` is there while the job is worked on.
"""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from models.manifest import PROGRESS_METRIC

__all__ = ["ProgressMetric"]


class ProgressMetric:
    """A gauge of one job at a time.

    A family keeps every gauge that was made of it; so each job has a family of its own.
    """

    def __init__(self) -> None:
        self._family: Any = None
        self._gauge: Any = None

    def tell(self, job_uid: str, share: float) -> None:
        """Tell what share of a job is done, 0 to 1."""
        if self._family is None:
            self._family = pb_utils.MetricFamily(
                name=PROGRESS_METRIC,
                description="Share of a job's network passes that is done",
                kind=pb_utils.MetricFamily.GAUGE,
            )
            self._gauge = self._family.Metric(labels={"job": job_uid})
        self._gauge.set(share)

    def forget(self) -> None:
        """Take the job's gauge away: the job has ended."""
        self._gauge = self._family = None
