"""Images that were acknowledged and whose files are nowhere any more: said until they are back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from sqlalchemy import Engine, select

from services.common.database import InstanceRow

_MOST_NAMED = 3


class LostImages:
    """What is known of them at this listener; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._studies: dict[str, str] = {}  # by SOP Instance UID

    def note(self, studies: Mapping[str, str]) -> int:
        """Files of these images were looked for, and found nowhere.

        Args:
            studies: SOP Instance UID -> study UID.

        Returns:
            Of how many of them that was not known.
        """
        with self._lock:
            known = len(self._studies)
            self._studies.update(studies)
            return len(self._studies) - known

    def found(self, sop_instance_uids: Iterable[str]) -> None:
        """The files of these images are there."""
        with self._lock:
            for uid in sop_instance_uids:
                self._studies.pop(uid, None)

    def remark(self) -> str | None:
        """How many are missing, of which studies, and what to do; None where none is."""
        with self._lock:
            images, studies = len(self._studies), sorted(set(self._studies.values()))
        if not images:
            return None
        named = ", ".join(studies[:_MOST_NAMED])
        more = len(studies) - _MOST_NAMED
        return (
            f"{images} acknowledged image(s) are neither on the listener's disk nor in the store, "
            f"and their studies wait: {named}{f' and {more} more' if more > 0 else ''}. Send them "
            "again."
        )


def spooled_images(engine: Engine, listener_id: str) -> dict[str, str]:
    """Images of which a row says that their files are at this listener: SOP Instance UID -> study
    UID."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(
            select(InstanceRow.sop_instance_uid, InstanceRow.study_uid).where(
                InstanceRow.spooled_by == listener_id
            )
        ).all()
    return {uid: study_uid for uid, study_uid in rows}  # noqa: C416 - no pairs
