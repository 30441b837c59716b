"""The database in which services meet. Each table has one writing room (see `tables`).

SQLite on one machine, PostgreSQL for more; the same code and the same tests for both.
"""

from services.common.database.engine import open_database
from services.common.database.migrate import migrate
from services.common.database.readiness import database_problems
from services.common.database.tables import (
    Base,
    ConflictRow,
    DeliveryRow,
    DeploymentRow,
    ExecutorRow,
    ExpectationRow,
    FateRow,
    InstanceRow,
    JobInputRow,
    JobOutputRow,
    JobRow,
    JobStageRow,
    MeasurementRow,
    ResultRow,
    RevisionInstanceRow,
    RevisionRow,
    SchemaVersionRow,
    SeriesRow,
    StudyRow,
    utc_now,
)

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
    "database_problems",
    "migrate",
    "open_database",
    "utc_now",
]
