"""Sending files by C-STORE over one association or several (storage SCU, PS3.4 B).

Every file is offered in the transfer syntax that it is in. What is not answered, because the
association ended or the answer did not come in time, is sent once more over another association:
sending twice does no harm. An association that brings nothing forward is not replaced again.
"""

from __future__ import annotations

import io
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.common.errors import TranscodingError
from services.dimse.commands import Response
from services.dimse.endings import context_result_in_words
from services.dimse.errors import AssociationError, DimseError, SourceError
from services.dimse.files import FoundInstance
from services.dimse.line import Call
from services.dimse.pdu import MOST_CONTEXTS, ProposedContext
from services.dimse.requestor import Association, StoreRequest
from services.dimse.statuses import SendOutcome, judge_status

# A file's data set in another transfer syntax than its own; raises TranscodingError or OSError.
Convert = Callable[[Path, str], bytes]
# Transfer syntax -> what `Convert` can make of it, preferred ones first.
Alternatives = Mapping[str, tuple[str, ...]]

_TRIES = 2


class SendError(DimseError):
    """Nothing could be sent: the receiver does not answer or rejects us."""


@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of the files.

    Attributes:
        failed: file and problem of those that were not stored.
        remarks: file and warning of those that were stored with a warning.
        statuses: how often each status was answered.
        associations: how many associations were open at once.
        seconds: from the first request to the last response.
        last_response_at: `time.time` when the last file was answered or given up.
    """

    sent: int
    failed: tuple[tuple[Path, str], ...]
    study_uids: tuple[str, ...]
    seconds: float
    last_response_at: float
    remarks: tuple[tuple[Path, str], ...] = ()
    statuses: Mapping[int, int] = field(default_factory=dict[int, int])
    associations: int = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """What one association can carry: instances, and the contexts that they need."""

    contexts: tuple[ProposedContext, ...]
    instances: tuple[FoundInstance, ...]


def plan(
    instances: Sequence[FoundInstance], alternatives: Alternatives | None = None
) -> list[Batch]:
    """Cuts the instances into batches that 128 presentation contexts are enough for.

    Each SOP class and transfer syntax that occurs is a context of its own, and so is each of its
    alternatives: the choice in one context hides no other.

    Args:
        instances: to be sent.
        alternatives: of transfer syntaxes: transfer syntax -> those that may be sent instead.
    """
    known = alternatives or {}
    batches: list[tuple[dict[tuple[str, str], None], list[FoundInstance]]] = []
    place: dict[tuple[str, str], int] = {}
    for instance in instances:
        own = (instance.sop_class_uid, instance.transfer_syntax_uid)
        if own not in place:
            others = known.get(instance.transfer_syntax_uid, ())
            needed = dict.fromkeys([own, *((own[0], syntax) for syntax in others)])
            if not batches or len(batches[-1][0] | needed) > MOST_CONTEXTS:
                batches.append(({}, []))
            batches[-1][0].update(needed)
            place[own] = len(batches) - 1
        batches[place[own]][1].append(instance)
    return [Batch(_numbered(contexts), tuple(files)) for contexts, files in batches]


def _numbered(contexts: Mapping[tuple[str, str], None]) -> tuple[ProposedContext, ...]:
    return tuple(
        ProposedContext(2 * number + 1, sop_class, (syntax,))
        for number, (sop_class, syntax) in enumerate(contexts)
    )


def send_instances(
    instances: Sequence[FoundInstance],
    call: Call,
    *,
    associations: int = 1,
    alternatives: Alternatives | None = None,
    convert: Convert | None = None,
    on_sent: Callable[[], None] = lambda: None,
) -> SendReport:
    """Sends the files; a file that is not taken stops no other.

    Args:
        associations: how many to have open at once; with fewer where the receiver rejects more.
        alternatives, convert: for receivers that do not take the transfer syntax of a file.
        on_sent: called for each file that was answered or given up, from any thread.

    Raises:
        SendError: no association at all; the message says why.
    """
    begun = time.monotonic()
    sending = _Sending(call, alternatives or {}, convert, on_sent)
    most = 0
    for batch in plan(instances, alternatives if convert is not None else None):
        most = max(most, sending.send(batch, associations))
    order = {instance.file: number for number, instance in enumerate(instances)}
    failed = sorted(sending.failed, key=lambda each: order[each[0]])
    return SendReport(
        sent=len(instances) - len(failed),
        failed=tuple(failed),
        study_uids=tuple(dict.fromkeys(i.study_uid for i in instances if i.study_uid)),
        seconds=time.monotonic() - begun,
        last_response_at=time.time(),
        remarks=tuple(sorted(sending.remarks, key=lambda each: order[each[0]])),
        statuses=dict(sending.statuses),
        associations=most,
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An instance that is to be sent next.

    Attributes:
        tries: how often it may be sent yet.
        request: what to ask, or why it cannot be.
        held: what is open for it.
    """

    instance: FoundInstance
    tries: int
    request: StoreRequest | str
    held: ExitStack


@dataclass(slots=True)
class _Turn:
    """An association's own part of what is sent: its thread alone uses it.

    Attributes:
        left: what no association has taken, with how often each may be sent yet; shared by all.
        ahead: taken from it, and to be sent next.
    """

    association: Association
    left: deque[tuple[FoundInstance, int]]
    ahead: _Prepared | None = None

    def give_back(self) -> None:
        """Leaves what was taken in advance to whichever association comes next."""
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            ahead.held.close()
            self.left.appendleft((ahead.instance, ahead.tries))


class _Sending:
    """The state of one call of `send_instances`; shared by the threads of its associations."""

    def __init__(
        self,
        call: Call,
        alternatives: Alternatives,
        convert: Convert | None,
        on_sent: Callable[[], None],
    ) -> None:
        self._call = call
        self._alternatives = alternatives
        self._convert = convert
        self._on_sent = on_sent
        self._lock = threading.Lock()
        self._open: set[Association] = set()
        self._first_open = threading.Event()
        self._ever_open = False
        self._most = 0
        self._problem: AssociationError | None = None
        self._stopped = False
        self.failed: list[tuple[Path, str]] = []
        self.remarks: list[tuple[Path, str]] = []
        self.statuses: Counter[int] = Counter()

    def send(self, batch: Batch, associations: int) -> int:
        """Sends a batch; how many associations were open at once."""
        left = deque((instance, _TRIES) for instance in batch.instances)
        self._problem = None
        self._most = 0
        self._first_open.clear()
        threads = [
            threading.Thread(target=self._join_in, args=(batch.contexts, left), daemon=True)
            for _ in range(min(associations, len(left)) - 1)
        ]
        try:
            for thread in threads:
                thread.start()
            try:
                self._serve(batch.contexts, left)
            finally:
                self._first_open.set()
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop()
            raise
        problem = self._problem
        if problem is not None and not self._ever_open:
            raise SendError(
                f"{self._call.called} at {self._call.host}:{self._call.port} {problem}.",
                retryable=problem.retryable,
            ) from problem
        for instance, _ in left:
            self._give_up(instance, str(problem))
        return self._most

    def _join_in(
        self, contexts: Sequence[ProposedContext], left: deque[tuple[FoundInstance, int]]
    ) -> None:
        """Serves beside the first association, once the receiver has accepted that one.

        Asking for all at once, a receiver that takes few might reject every one.
        """
        self._first_open.wait()
        self._serve(contexts, left)

    def _serve(
        self, contexts: Sequence[ProposedContext], left: deque[tuple[FoundInstance, int]]
    ) -> None:
        """One association after the other, until nothing is left or nothing goes forward."""
        strikes = 0
        while left and strikes < _TRIES:
            brought = 0
            association = Association(self._call, contexts)
            turn = _Turn(association, left)
            try:
                with association:
                    self._opened(association)
                    while association.is_open and self._send_next(turn):
                        brought += 1
            except AssociationError as problem:
                self._problem = problem
            finally:
                turn.give_back()
                with self._lock:
                    self._open.discard(association)
            strikes = 0 if brought else strikes + 1
            if not brought and (self._open or not self._ever_open):
                return  # others go on and the receiver wants no more of us, or none of us at all

    def _opened(self, association: Association) -> None:
        with self._lock:
            self._ever_open = True
            self._open.add(association)
            self._first_open.set()
            self._most = max(self._most, len(self._open))
            if self._stopped:
                association.cut()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for association in self._open:
                association.cut()

    def _send_next(self, turn: _Turn) -> bool:
        """Sends the next instance; False when there is none."""
        current, turn.ahead = turn.ahead or self._prepare(turn), None
        if current is None:
            return False
        try:
            with current.held:
                self._store(turn, current)
        except AssociationError as problem:
            turn.give_back()  # behind the one that could not be sent
            if current.tries > 1:
                turn.left.appendleft((current.instance, current.tries - 1))
            else:
                self._give_up(current.instance, str(problem))
            raise
        self._on_sent()
        return True

    def _store(self, turn: _Turn, current: _Prepared) -> None:
        if isinstance(current.request, str):
            self._note(current.instance, current.request)
            return
        try:
            response = turn.association.store(
                current.request, meanwhile=lambda: self._look_ahead(turn)
            )
        except SourceError as error:
            self._note(current.instance, str(error))
        else:
            self._judge(current.instance, response)

    def _look_ahead(self, turn: _Turn) -> None:
        """Reads the next instance while the receiver writes the one before.

        Of the last ones none is taken in advance: another association may be free before this one.
        """
        if len(turn.left) < len(self._open):
            return
        turn.ahead = ahead = self._prepare(turn)
        if ahead is None or isinstance(ahead.request, str):
            return
        try:
            turn.association.read_ahead(ahead.request)
        except SourceError as error:
            turn.ahead = replace(ahead, request=str(error))

    def _prepare(self, turn: _Turn) -> _Prepared | None:
        """The next instance, its file open; None when another association has taken the last."""
        try:
            instance, tries = turn.left.popleft()
        except IndexError:
            return None
        held = ExitStack()
        try:
            request = self._request(turn.association, instance, held)
        except OSError as error:
            request = f"it cannot be read: {error.strerror}"
        return _Prepared(instance, tries, request, held)

    def _request(
        self, association: Association, instance: FoundInstance, held: ExitStack
    ) -> StoreRequest | str:
        """What to ask, or why the receiver cannot be asked."""
        sop_class, own = instance.sop_class_uid, instance.transfer_syntax_uid
        context_id = association.accepted(sop_class, own)
        if context_id is not None:
            stream = held.enter_context(instance.open())
            return StoreRequest(
                context_id, sop_class, instance.sop_instance_uid, stream, instance.data_bytes
            )
        for syntax in self._alternatives.get(own, ()):
            context_id = association.accepted(sop_class, syntax)
            if context_id is None or self._convert is None:
                continue
            try:
                data = self._convert(instance.file, syntax)
            except TranscodingError as error:
                return f"it cannot be written in {syntax}: {error}"
            except OSError as error:
                return f"it cannot be read: {error.strerror}"
            stream = io.BytesIO(data)
            return StoreRequest(context_id, sop_class, instance.sop_instance_uid, stream, len(data))
        _, result = association.contexts.get((sop_class, own), (0, 1))
        return f"the receiver {context_result_in_words(result)} ({sop_class}, {own})"

    def _judge(self, instance: FoundInstance, response: Response) -> None:
        status = response.status or 0
        meaning = judge_status(status)
        said = f"status 0x{status:04X}: {meaning.meaning}"
        if response.comment:
            said += f" ({response.comment})"
        with self._lock:
            self.statuses[status] += 1
            if meaning.outcome is not SendOutcome.DELIVERED:
                self.failed.append((instance.file, said))
            elif status:
                self.remarks.append((instance.file, said))

    def _note(self, instance: FoundInstance, problem: str) -> None:
        with self._lock:
            self.failed.append((instance.file, problem))

    def _give_up(self, instance: FoundInstance, problem: str) -> None:
        self._note(instance, f"the receiver {problem}")
        self._on_sent()
