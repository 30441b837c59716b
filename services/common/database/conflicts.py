"""Which conflicts concern whom: asked by who decides them and by who shows them."""

from __future__ import annotations

from sqlalchemy import ColumnElement, or_

from services.common.database.tables import ConflictRow


def about(uid: str) -> ColumnElement[bool]:
    """The condition that a conflict concerns a study, a series or an instance.

    Args:
        uid: of a study or a series, as sent or of the instances, or of an instance.
    """
    return or_(
        ConflictRow.study_uid == uid,
        ConflictRow.kept_study_uid == uid,
        ConflictRow.series_uid == uid,
        ConflictRow.kept_series_uid == uid,
        ConflictRow.sop_instance_uid == uid,
    )
