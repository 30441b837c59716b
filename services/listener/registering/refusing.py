"""Whether other bytes are known under a SOP Instance UID: for peers of whom none are taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine

from services.listener.errors import ListenerError
from services.listener.registering.registry import find_instance

# Registering what was acknowledged takes milliseconds; this long only while the database is away.
_REGISTERED_WITHIN_S = 5.0
# What was answered "none" of late: it may be on its way, and a second sender asks meanwhile. What
# has not come within this time was not taken: the disk refused it.
_MOST_ANSWERED = 4096
_ON_ITS_WAY_S = 60.0


class KnownOtherwise:
    """Answers for all doors; may be asked from several threads.

    Args:
        registered: waits until everything acknowledged so far is registered, at most so many
            seconds; False when it is not.
        clock: seconds.
    """

    def __init__(
        self,
        engine: Engine,
        registered: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._registered = registered
        self._clock = clock
        self._lock = threading.Lock()
        # By SOP Instance UID: digest, syntax, and when; the latest last.
        self._answered: dict[str, tuple[str, str, float]] = {}

    def __call__(self, sop_instance_uid: str, digest: str, syntax: str) -> bool:
        """Whether an instance of that UID is known that is another one.

        Raises:
            ListenerError: what was acknowledged is not registered yet.
            SQLAlchemyError: the database does not answer.
        """
        if not self._registered(_REGISTERED_WITHIN_S):
            raise ListenerError("Instances wait to be registered.", retryable=True)
        known = find_instance(self._engine, sop_instance_uid)
        if known is not None and known.deleted_at is None:
            return (known.data_digest, known.transfer_syntax_uid) != (digest, syntax)
        now = self._clock()
        with self._lock:
            first = self._answered.pop(sop_instance_uid, (digest, syntax, now))
            if now - first[2] > _ON_ITS_WAY_S:
                first = (digest, syntax, now)
            self._answered[sop_instance_uid] = first
            while len(self._answered) > _MOST_ANSWERED:
                del self._answered[next(iter(self._answered))]
        return first[:2] != (digest, syntax)
