"""What ends an association before its time, and what cannot be sent.

Messages are ends of sentences: the caller says first of whom they speak.

DimseError
 |- AssociationError    there is no association, or none any more
 |   |- NotReached      nobody listens there, the name is not known, or TLS failed
 |   |- Rejected        the acceptor rejected the association
 |   |- Aborted         the acceptor aborted or released it, or closed the connection
 |   |- NoAnswer        the acceptor took or said nothing for too long
 |   `- Violated        the acceptor said what cannot be understood
 `- SourceError         the data set that is sent cannot be read, or is shorter than it was
"""

from __future__ import annotations

from services.common.errors import AxialError


class DimseError(AxialError):
    """Root of the room's exceptions on the requestor's side."""


class AssociationError(DimseError):
    """There is no association, or none any more: nothing is known of what was under way."""


class NotReached(AssociationError):
    """No connection: nobody listens there, the name is not known, or TLS failed."""


class Rejected(AssociationError):
    """The acceptor rejected the association.

    Attributes:
        code: result, source and reason of the A-ASSOCIATE-RJ (PS3.8 table 9-21).
    """

    def __init__(self, message: str, code: tuple[int, int, int], *, retryable: bool) -> None:
        super().__init__(message, retryable=retryable)
        self.code = code


class Aborted(AssociationError):
    """The acceptor aborted or released the association, or closed the connection."""


class NoAnswer(AssociationError):
    """The acceptor took or said nothing for too long."""


class Violated(AssociationError):
    """The acceptor said what cannot be understood."""


class SourceError(DimseError):
    """The data set to send cannot be read, or is shorter than it was."""
