"""From the bytes of a data set to a status: durable first, then registered, then acknowledged.

Cost of an instance: parsing its header (about 2 ms), one SHA-256 pass, one file write with two
syncs, one transaction.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.common.crashpoints import crashpoint
from services.common.database import utc_now
from services.common.headers import HeaderError, read_registration
from services.common.identity import hashed, sha256_hex
from services.common.store import StoreError, StudyStore, instance_key
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import BYTES_RECEIVED, INSTANCES_RECEIVED
from services.listener.part10 import file_meta
from services.listener.registry import (
    Outcome,
    ReceivedInstance,
    find_instance,
    register_instance,
)
from services.listener.statuses import StoreStatus

_log = get_logger("listener")

# Offers of one instance are worked on one after the other, in whichever association they come:
# as many locks as associations are likely to want at a time.
_LOCKS = 64
# Of a conflicting instance's digest, what the log says: enough to find its file by.
_SHOWN_OF_DIGEST = 12


@dataclass(frozen=True, slots=True)
class OfferedInstance:
    """A C-STORE request.

    Attributes:
        sop_class_uid, sop_instance_uid: as in the command.
        peer: the calling AE title.
        data: the data set as sent, without file meta information.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    peer: str
    data: bytes


class Reception:
    """Takes instances in.

    Args:
        on_stored: called with the study's UID after a new instance is registered.
        clock: the present in UTC.
    """

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        on_stored: Callable[[str], None],
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._engine = engine
        self._store = store
        self._on_stored = on_stored
        self._clock = clock
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def receive(self, offered: OfferedInstance) -> StoreStatus:
        """Stores an instance and answers for it; raises nothing."""
        lock = self._locks[hash(offered.sop_instance_uid) % _LOCKS]
        try:
            with lock:
                return self._receive(offered)
        except HeaderError as error:
            return _failed(offered, StoreStatus.CANNOT_UNDERSTAND, str(error))
        except StoreError as error:
            return _not_stored(offered, error)
        except SQLAlchemyError as error:
            return _failed(offered, StoreStatus.PROCESSING_FAILURE, type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the peer must get an answer, whatever happened
            return _failed(offered, StoreStatus.PROCESSING_FAILURE, type(error).__name__)

    def _receive(self, offered: OfferedInstance) -> StoreStatus:
        meta = file_meta(
            offered.sop_class_uid,
            offered.sop_instance_uid,
            offered.transfer_syntax_uid,
            offered.peer,
        )
        registration = read_registration(b"".join((meta, offered.data)))
        header = registration.header
        in_data_set = (header.sop_class_uid, header.sop_instance_uid)
        if in_data_set != (offered.sop_class_uid, offered.sop_instance_uid):
            problem = "The SOP class or instance UID is not the one in the command."
            return _failed(offered, StoreStatus.DATA_SET_MISMATCH, problem)
        chunks = (meta, offered.data)
        received = ReceivedInstance(
            registration=registration,
            store_key=instance_key(header.study_uid, header.series_uid, header.sop_instance_uid),
            size_bytes=sum(map(len, chunks)),
            data_digest=sha256_hex(offered.data),
            received_at=self._clock(),
            peer=offered.peer,
        )
        known = find_instance(self._engine, header.sop_instance_uid)
        if known is None:
            return self._first(offered, received, chunks)
        if not known.is_same(received.data_digest, header.transfer_syntax_uid):
            return self._conflicting(offered, chunks, received.data_digest)
        if not self._store.exists(known.store_key):
            self._store.put(known.store_key, chunks)  # somebody lost it
        return _repeated()

    def _first(
        self, offered: OfferedInstance, received: ReceivedInstance, chunks: tuple[bytes, bytes]
    ) -> StoreStatus:
        self._store.put(received.store_key, chunks)
        crashpoint("listener.file.synced")
        outcome = register_instance(self._engine, received)
        crashpoint("listener.instance.registered")
        if outcome is Outcome.CONFLICTING:  # another process was a moment earlier
            return self._conflicting(offered, chunks, received.data_digest)
        if outcome is Outcome.REPEATED:
            return _repeated()
        INSTANCES_RECEIVED.labels(outcome).inc()
        BYTES_RECEIVED.inc(len(offered.data))
        self._on_stored(received.registration.header.study_uid)
        return StoreStatus.SUCCESS

    def _conflicting(
        self, offered: OfferedInstance, chunks: tuple[bytes, bytes], digest: str
    ) -> StoreStatus:
        # PS3.4 B.2.3 leaves duplicates to us: the first one received stays the one that is used.
        # The sender may drop its copy after the success, so that this one is kept beside it.
        key = conflict_key(offered.sop_instance_uid, digest)
        if not self._store.exists(key):
            self._store.put(key, chunks)
        INSTANCES_RECEIVED.labels(Outcome.CONFLICTING).inc()
        _log.warning(
            "instance_conflicting",
            instance_uid_hash=hashed(offered.sop_instance_uid),
            digest=digest[:_SHOWN_OF_DIGEST],
            peer=offered.peer,
        )
        return StoreStatus.SUCCESS


def conflict_key(sop_instance_uid: str, data_digest: str) -> str:
    """The key of other bytes that came under the UID of a registered instance."""
    return f"conflicts/{sop_instance_uid}/{data_digest}.dcm"


def _repeated() -> StoreStatus:
    INSTANCES_RECEIVED.labels(Outcome.REPEATED).inc()
    return StoreStatus.SUCCESS


def _not_stored(offered: OfferedInstance, error: StoreError) -> StoreStatus:
    # The error's own text names UIDs, or what stood in their place: not for the log.
    if not error.retryable:
        return _failed(offered, StoreStatus.CANNOT_UNDERSTAND, "One of the UIDs is no UID.")
    cause = error.__cause__
    problem = (cause.strerror if isinstance(cause, OSError) else None) or "The disk refused."
    return _failed(offered, StoreStatus.OUT_OF_RESOURCES, problem)


def _failed(offered: OfferedInstance, status: StoreStatus, problem: str) -> StoreStatus:
    INSTANCES_RECEIVED.labels("refused").inc()
    _log.warning(
        "instance_refused",
        status=f"{status:04X}",
        problem=problem,
        instance_uid_hash=hashed(offered.sop_instance_uid),
        peer=offered.peer,
    )
    return status
