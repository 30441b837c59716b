"""How many images a revision has: an object with frames is as many as it has frames."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.database import InstanceRow, RevisionInstanceRow

_LONGEST = 12


def frames_beyond_the_first(session: Session, uid: str, number: int) -> Counter[str]:
    """Images that a revision's multi-frame objects hold beyond one for each, by series."""
    number_of_frames = InstanceRow.header[("attributes", "NumberOfFrames")].as_string()
    found: Counter[str] = Counter()
    for series_uid, frames in session.execute(
        select(InstanceRow.series_uid, number_of_frames)
        .join(
            RevisionInstanceRow,
            RevisionInstanceRow.sop_instance_uid == InstanceRow.sop_instance_uid,
        )
        .where(
            RevisionInstanceRow.study_uid == uid,
            RevisionInstanceRow.number == number,
            number_of_frames.is_not(None),
        )
    ):
        digits = str(frames).strip('[]" ')
        # PS3.5 6.2, IS: at most 12 characters; anything else is no number of frames.
        if digits.isdecimal() and len(digits) <= _LONGEST:
            found[series_uid] += max(int(digits) - 1, 0)
    return found
