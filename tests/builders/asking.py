"""An association that we ask an acceptor on this machine for, and what is stored over it."""

from __future__ import annotations

import io

from services.common.transcoding import EXPLICIT, IMPLICIT
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import VERIFICATION, Association, StoreRequest

CT = "1.2.840.10008.5.1.4.1.1.2"
CONTEXTS = (
    ProposedContext(1, CT, (EXPLICIT,)),
    ProposedContext(3, CT, (IMPLICIT,)),
    ProposedContext(5, VERIFICATION, (IMPLICIT,)),
)
DATA = bytes(range(256)) * 20


def asked(port: int, **changes: float) -> Association:
    """An association with an acceptor on this machine; `changes` to its timeouts."""
    given = {"connect_timeout_s": 5.0, "answer_timeout_s": 30.0, **changes}
    return Association(Call("127.0.0.1", port, "PACS", "AXIAL", **given), CONTEXTS)  # pyright: ignore[reportArgumentType]


def request(data: bytes = DATA, context_id: int = 1) -> StoreRequest:
    """A request to store some bytes."""
    return StoreRequest(context_id, CT, "1.2.3.4", io.BytesIO(data), len(data))
