"""Whether other bytes are known under a SOP Instance UID: for peers of whom none are taken."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import Engine

from services.listener.errors import ListenerError
from services.listener.registering.registry import find_instance

# Registering what was acknowledged takes milliseconds; this long only while the database is away.
_REGISTERED_WITHIN_S = 5.0
# What was answered "none" of late: it may be on its way, and a second sender asks meanwhile.
_MOST_ANSWERED = 4096


class KnownOtherwise:
    """Answers for all doors; may be asked from several threads.

    Args:
        registered: waits until everything acknowledged so far is registered, at most so many
            seconds; False when it is not.
    """

    def __init__(self, engine: Engine, registered: Callable[[float], bool]) -> None:
        self._engine = engine
        self._registered = registered
        self._lock = threading.Lock()
        self._answered: dict[str, tuple[str, str]] = {}

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
        with self._lock:
            if len(self._answered) >= _MOST_ANSWERED:
                del self._answered[next(iter(self._answered))]
            first = self._answered.setdefault(sop_instance_uid, (digest, syntax))
        return first != (digest, syntax)
