"""Associations with a whole listener, as pynetdicom opens them."""

from __future__ import annotations

from typing import Any

from pydicom.uid import MRImageStorage
from pynetdicom import AE, build_context

from services.listener.service import Listener

VERIFICATION = "1.2.840.10008.1.1"


def associate(listener: Listener, called: str = "AXIAL", calling: str = "MR1", **how: Any) -> Any:
    """An association that was asked for; `contexts` are those of an echo and of MR by default."""
    entity = AE(ae_title=calling)
    contexts = how.get("contexts", [build_context(VERIFICATION), build_context(MRImageStorage)])
    return entity.associate("127.0.0.1", listener.port, ae_title=called, contexts=contexts)
