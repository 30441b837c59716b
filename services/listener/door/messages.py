"""What receivers and the main process say to each other: frozen values, one class for each.

`Told` is the union of what the main process hears, from receivers and from its own STOW-RS door;
`Asked` of what it says to a receiver. How they go over the socket pair is `encoding`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.header_scan import Scanned
from services.listener.door.config import DoorConfig
from services.listener.door.spool import SpooledFile


@dataclass(frozen=True, slots=True)
class Stored:
    """An instance is durable in the spool.

    Attributes:
        scanned: what the instance's head says; None where the head is left to the library.
        peer: the sender's name in the settings; priority: the sender's.
        association: in which the instance came, by a name among all that are open; an HTTP request
            has a name too.
    """

    file: SpooledFile
    study_uid: str
    series_uid: str
    scanned: Scanned | None
    peer: str
    priority: str
    association: str


@dataclass(frozen=True, slots=True)
class InstanceRefused:
    """An instance was answered with a failure; nothing is left of it.

    Attributes:
        status: of the answer, four hexadecimal digits.
        peer: the calling AE title.
        raised: the class of what was not foreseen, for the log; empty where nothing was raised.
    """

    status: str
    problem: str
    instance_uid_hash: str
    peer: str
    raised: str = ""


@dataclass(frozen=True, slots=True)
class AssociationOpened:
    """A peer was admitted.

    Attributes:
        certificate_sha256: the peer's; empty without TLS.
    """

    peer: str
    ae_title: str
    address: str
    certificate_sha256: str = ""


@dataclass(frozen=True, slots=True)
class AssociationClosed:
    """An association that was admitted is over.

    Attributes:
        association: its name, as in `Stored`.
        ended: as `association.Tally.ended`.
        instances_by_study: by study UID and SOP class UID.
        within: whether the association ended in the middle of a message, however it ended.
    """

    association: str
    peer: str
    ae_title: str
    address: str
    secure: bool
    instances: int
    data_bytes: int
    seconds: float
    ended: str
    instances_by_study: Mapping[str, Mapping[str, int]] = field(
        default_factory=dict[str, Mapping[str, int]]
    )
    within: bool = False


@dataclass(frozen=True, slots=True)
class AssociationRejected:
    """An association request was answered with a rejection, for one of our own reasons."""

    reason: str
    called_ae_title: str
    ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class AssociationMalformed:
    """A connection was aborted because the bytes that came were no DICOM."""

    problem: str
    ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class AssociationsAborted:
    """So many connections were cut when a receiver had to stop."""

    associations: int


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """A connection ended because the system was short of something."""

    problem: str


@dataclass(frozen=True, slots=True)
class TlsRefused:
    """A connection did not become a TLS connection.

    Attributes:
        reason: in a word; problem: in a sentence.
    """

    reason: str
    problem: str
    address: str


@dataclass(frozen=True, slots=True)
class TlsFilesChanged:
    """The TLS files were read anew.

    Attributes:
        problem: why the files cannot be used, so that those before stay in use; None where the
            files can be used.
    """

    problem: str | None = None


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A STOW-RS request has ended.

    Attributes:
        association: its name, as in `Stored`.
        orderly: whether its whole body came.
    """

    association: str
    orderly: bool


@dataclass(frozen=True, slots=True)
class Question:
    """Are other bytes known under that SOP Instance UID? Answered by `Answer`."""

    number: int
    sop_instance_uid: str
    digest: str
    syntax: str


@dataclass(frozen=True, slots=True)
class Pong:
    """Every instance of which senders heard before the `Ping` of that number was told before."""

    number: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The receiver accepts associations."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The receiver cannot start."""

    problem: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The receiver has stopped as the main process asked: no message follows."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message that this program does not know: the other end is of another version.

    Attributes:
        kind: the message's name there.
    """

    kind: str


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message to a receiver: what to serve."""

    config: DoorConfig


@dataclass(frozen=True, slots=True)
class Ping:
    """Was every instance told of which a sender has heard? Answered by `Pong`."""

    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a `Question`.

    Attributes:
        conflict: None where the main process could not find out.
    """

    number: int
    conflict: bool | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Accept nothing more; cut what is still served after that time."""

    within_s: float


# What is said where it belongs: in the log, the counters, the audit trail.
DoorEvent = (
    InstanceRefused
    | AssociationOpened
    | AssociationClosed
    | AssociationRejected
    | AssociationMalformed
    | AssociationsAborted
    | ConnectionFailed
    | TlsRefused
    | TlsFilesChanged
)
Told = Stored | DoorEvent | RequestEnded | Question | Pong | Ready | Failed | Ended | Unknown
Asked = Begin | Ping | Answer | Stop | Unknown
Message = Told | Asked
