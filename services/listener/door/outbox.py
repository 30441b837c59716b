"""What a receiver tells the main process, gathered: a message costs both of them a wake-up.

An instance is told of a moment after its sender heard of success, together with those that came in
that moment. It is in the outbox before the sender hears, so that whoever asks the receiver whether
all was told (`messages.Ping`) is answered rightly; and it is in the spool, should the receiver die.

One thread sends. Those that wait for it wait for their own messages, which go with the next ones
that are sent: a lock would be taken by whoever comes at the right moment, and with hundreds of
associations some waited for seconds.
"""

from __future__ import annotations

import threading

from services.listener.door.channel import Channel
from services.listener.door.messages import Question, Stored, Told

_GATHER_S = 0.01
# How long an answer of the main process is waited for: it asks the database.
_ANSWERED_WITHIN_S = 15.0
# So many go at once: while the main process is behind, senders wait.
_MOST_GATHERED = 32


class MainProcessGoneError(Exception):
    """Nothing can be told to the main process: nothing may be acknowledged any more."""


class Outbox:
    """Messages on their way to the main process, in the order in which they were given."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._gathered: list[Told] = []
        self._waiting: list[threading.Lock] = []  # for what is gathered to be sent
        self._hurry = False
        self._gone = False
        self._lock = threading.Lock()
        self._first = threading.Condition(self._lock)
        self._hurried = threading.Condition(self._lock)
        self._asked: dict[int, tuple[threading.Event, list[bool]]] = {}
        self._number = 0
        threading.Thread(target=self._run, name="outbox", daemon=True).start()

    def tell(self, message: Told) -> None:
        """Sends a message: `Stored` within a moment, together with others; any other at once.

        Returns when the message was sent, or is gathered and few are.

        Raises:
            MainProcessGoneError: the main process is gone.
        """
        with self._lock:
            if self._gone:
                raise MainProcessGoneError
            self._gathered.append(message)
            if len(self._gathered) == 1:
                self._first.notify()
            if isinstance(message, Stored) and len(self._gathered) < _MOST_GATHERED:
                return
            sent = threading.Lock()
            sent.acquire()
            self._waiting.append(sent)
            self._hurry = True
            self._hurried.notify()
        sent.acquire()
        if self._gone:
            raise MainProcessGoneError

    def ask(self, sop_instance_uid: str, digest: str, syntax: str) -> bool:
        """Whether other bytes are known under a SOP Instance UID.

        Raises:
            TimeoutError: the main process does not answer; an OSError.
            MainProcessGoneError: the main process is gone.
        """
        answered, answer = threading.Event(), list[bool]()
        with self._lock:
            self._number += 1
            number = self._number
            self._asked[number] = answered, answer
        self.tell(Question(number, sop_instance_uid, digest, syntax))
        try:
            if not answered.wait(_ANSWERED_WITHIN_S) or not answer:
                raise TimeoutError("It is not known whether the instance is.")
        finally:
            with self._lock:
                self._asked.pop(number, None)
        return answer[0]

    def hear_answer(self, number: int, conflict: bool | None) -> None:
        """Hands the main process's answer to who asked.

        Args:
            number: of the `Question`.
            conflict: the answer; None where the main process could not find out.
        """
        with self._lock:
            asked = self._asked.get(number)
        if asked is not None:
            asked[1].extend([] if conflict is None else [conflict])
            asked[0].set()

    def _run(self) -> None:
        while not self._gone:
            with self._lock:
                while not self._gathered:
                    self._first.wait()
                if not self._hurry:
                    self._hurried.wait(_GATHER_S)
                gathered, self._gathered = self._gathered, []
                waiting, self._waiting = self._waiting, []
                self._hurry = False
            try:
                self._channel.send(*gathered)
            except Exception:  # noqa: BLE001 - whatever it is: what waits must hear of it
                with self._lock:
                    self._gone = True
                    waiting += self._waiting
            for sent in waiting:
                sent.release()
