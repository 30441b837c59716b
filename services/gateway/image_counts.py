"""How many images a revision has: an object with frames is as many as it has frames, and one
without pixels (raw data, a report) is none."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from services.common.database import InstanceRow, RevisionInstanceRow

_LONGEST = 12


def images_beyond_instances(session: Session, uid: str, number: int) -> Counter[str]:
    """How many more images than instances each series of a revision has; fewer are negative."""
    has_pixels = InstanceRow.header["has_pixels"].as_boolean()
    number_of_frames = InstanceRow.header[("attributes", "NumberOfFrames")].as_string()
    found: Counter[str] = Counter()
    for series_uid, frames, is_image in session.execute(
        select(InstanceRow.series_uid, number_of_frames, has_pixels)
        .join(
            RevisionInstanceRow,
            RevisionInstanceRow.sop_instance_uid == InstanceRow.sop_instance_uid,
        )
        .where(
            RevisionInstanceRow.study_uid == uid,
            RevisionInstanceRow.number == number,
            or_(number_of_frames.is_not(None), has_pixels.is_(False)),
        )
    ):
        if is_image is False:
            found[series_uid] -= 1
            continue
        digits = str(frames).strip('[]" ')
        # PS3.5 6.2, IS: at most 12 characters; anything else is no number of frames.
        if digits.isdecimal() and len(digits) <= _LONGEST:
            found[series_uid] += max(int(digits) - 1, 0)
    return found
