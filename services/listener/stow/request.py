"""The body of one STOW-RS request, read part by part; everything in it that blocks.

The HTTP side (`app`) hands it chunk after chunk from threads, one call at a time; should it have
to give up while a call is under way, `abandon` waits for that call's end.
"""

from __future__ import annotations

import threading
from collections import Counter

from services.common.identity import hashed
from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.telemetry.metrics import INSTANCES_RECEIVED
from services.listener.door.messages import RequestEnded
from services.listener.stow.instance import PartReception, StowTerms
from services.listener.stow.multipart import (
    Event,
    MultipartError,
    MultipartParser,
    PartBegun,
    PartData,
)
from services.listener.stow.response import Failed, FailureReason, PartOutcome, Stored

_log = get_logger("listener")


class StowRequest:
    """What a request brings.

    Args:
        boundary: of the request's parts.
        address: where the request comes from.

    Raises:
        MultipartError: the boundary is not allowed.
    """

    def __init__(self, terms: StowTerms, boundary: str, address: str) -> None:
        self._terms = terms
        self._parser = MultipartParser(boundary)
        self._peer = terms.peer.name
        self._address = address
        self._part: PartReception | None = None
        self._outcomes: list[PartOutcome] = []
        self._lock = threading.Lock()
        self.malformed = False

    @property
    def outcomes(self) -> list[PartOutcome]:
        """What became of each part so far, in the order in which they came."""
        return self._outcomes

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the body; when they are none, what follows is passed over."""
        with self._lock:
            if self.malformed:
                return
            try:
                for event in self._parser.feed(chunk):
                    self._handle_event(event)
            except MultipartError as error:
                self._give_up(str(error))

    def finish(self) -> list[PartOutcome]:
        """Says that the body has ended: what became of each of its parts."""
        with self._lock:
            if not self.malformed:
                try:
                    self._parser.close()
                except MultipartError as error:
                    self._give_up(str(error))
            self._tell_of_transfers()
            self._tell_of_end(orderly=not self.malformed)
            return self._outcomes

    def abandon(self) -> None:
        """The sender is gone: what is stored stays stored, the part under way is given up."""
        with self._lock:
            self._discard()
            self._tell_of_transfers()
            self._tell_of_end(orderly=False)

    def _handle_event(self, event: Event) -> None:
        if isinstance(event, PartBegun):
            self._part = PartReception(self._terms, event.headers)
            return
        assert self._part is not None, "the parser tells of data and ends within parts only"
        if isinstance(event, PartData):
            self._part.append(event.data)
        else:
            self._end_part(self._part)

    def _end_part(self, part: PartReception) -> None:
        try:
            outcome = part.finish()
        except Exception as error:  # noqa: BLE001 - its neighbours must not fail with it
            part.discard()
            _log.error("part_broke_off", kind=type(error).__name__)
            outcome = Failed(
                FailureReason.PROCESSING_FAILURE, "Something unforeseen went wrong in the receiver."
            )
        self._part = None
        self._outcomes.append(outcome)
        if isinstance(outcome, Failed):
            self._refused(outcome)

    def _give_up(self, problem: str) -> None:
        self.malformed = True
        self._discard()
        failed = Failed(FailureReason.CANNOT_UNDERSTAND, problem)
        self._outcomes.append(failed)
        self._refused(failed)

    def _discard(self) -> None:
        if self._part is not None:
            self._part.discard()
            self._part = None

    def _refused(self, failed: Failed) -> None:
        INSTANCES_RECEIVED.labels("refused").inc()
        _log.warning(
            "instance_refused",
            status=f"{failed.reason:04X}",
            problem=failed.problem,
            instance_uid_hash=hashed(failed.sop_instance_uid),
            peer=self._peer,
        )

    def _tell_of_transfers(self) -> None:
        studies: dict[str, Counter[str]] = {}
        for outcome in self._outcomes:
            if isinstance(outcome, Stored):
                studies.setdefault(outcome.study_uid, Counter())[outcome.sop_class_uid] += 1
        for study_uid, instances in studies.items():
            audit(
                AuditEvent.INSTANCES_RECEIVED,
                peer=self._peer,
                address=self._address,
                study_uid=study_uid,
                instances=instances,
            )

    def _tell_of_end(self, *, orderly: bool) -> None:
        self._terms.facilities.tell(RequestEnded(association=self._terms.request, orderly=orderly))
