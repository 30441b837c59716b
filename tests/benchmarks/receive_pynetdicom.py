"""Sending as it was before it was ours: pynetdicom's own requestor (decision 10)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pynetdicom import AE

from services.dimse.files import FoundInstance

_ANSWER_WITHIN_S = 15.0
_TRIES = 5


def send_by_pynetdicom(instances: Sequence[FoundInstance], port: int, called: str) -> None:
    """Sends files over one association; what is not answered, over another (it loses answers).

    Raises:
        RuntimeError: the receiver does not take all of them.
    """
    left = [instance.file for instance in instances]
    kinds = sorted({(one.sop_class_uid, one.transfer_syntax_uid) for one in instances})
    for _ in range(_TRIES):
        left = _send(left, kinds, port, called)
        if not left:
            return
    raise RuntimeError(f"{len(left)} instances were not taken.")


def _send(
    files: Sequence[Path], kinds: Sequence[tuple[str, str]], port: int, called: str
) -> list[Path]:
    """What was not taken."""
    entity = AE(ae_title="BENCH")
    entity.dimse_timeout = _ANSWER_WITHIN_S
    for sop_class, syntax in kinds:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        raise RuntimeError("The receiver takes no association.")
    left: list[Path] = []
    for number, file in enumerate(files):
        if not association.is_established:
            return [*left, *files[number:]]
        status = association.send_c_store(pydicom.dcmread(file))
        if status.get("Status") != 0:
            left.append(file)
    association.release()
    return left
