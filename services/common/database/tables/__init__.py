"""The tables, and which room writes each of them.

| table | described in | written by |
|---|---|---|
| study, series, instance, revision, revision_instance | `received` | listener |
| expectation, conflict | `received` | listener |
| job, job_input, job_output, measurement, job_stage, fate | `jobs` | orchestrator |
| deployment, executor | `serving` | orchestrator |
| result, delivery | `results` | reporting |
| schema_version | `base` | whoever migrates |

Times are UTC. UIDs are DICOM UIDs. Everything may be read by every service. The gateway and the
command line write nothing. `Base.metadata` is complete once this module is imported.
"""

from services.common.database.tables.base import Base, SchemaVersionRow, UtcDateTime, utc_now
from services.common.database.tables.jobs import (
    FateRow,
    JobInputRow,
    JobOutputRow,
    JobRow,
    JobStageRow,
    MeasurementRow,
)
from services.common.database.tables.received import (
    ConflictRow,
    ExpectationRow,
    InstanceRow,
    RevisionInstanceRow,
    RevisionRow,
    SeriesRow,
    StudyRow,
)
from services.common.database.tables.results import DeliveryRow, ResultRow
from services.common.database.tables.serving import DeploymentRow, ExecutorRow

__all__ = [
    "Base",
    "ConflictRow",
    "DeliveryRow",
    "DeploymentRow",
    "ExecutorRow",
    "ExpectationRow",
    "FateRow",
    "InstanceRow",
    "JobInputRow",
    "JobOutputRow",
    "JobRow",
    "JobStageRow",
    "MeasurementRow",
    "ResultRow",
    "RevisionInstanceRow",
    "RevisionRow",
    "SchemaVersionRow",
    "SeriesRow",
    "StudyRow",
    "UtcDateTime",
    "utc_now",
]
