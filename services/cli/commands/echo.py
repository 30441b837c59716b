"""``axial echo``: C-ECHO to the listener, or anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from services.cli.calling import TIMEOUT_HELP, Receiver
from services.cli.output import CommandError, print_json, reports_errors, say
from services.cli.plain import Option
from services.dimse.errors import AssociationError
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import VERIFICATION, Association

_IMPLICIT = "1.2.840.10008.1.2"


@dataclass(frozen=True)
class _Asked(Receiver):
    """The options, with a shorter wait."""

    timeout: Annotated[float, Option(TIMEOUT_HELP, minimum=0.1)] = 10.0


@reports_errors
def echo(
    receiver: _Asked,
    as_json: Annotated[bool, Option("For machines.", "--json")] = False,
) -> None:
    """Ask a DICOM system whether it answers (C-ECHO).

    Examples: `axial echo`; `axial echo --host pacs --port 104 --called PACS`
    """
    call = receiver.call()
    where = f"{call.called} at {call.host}:{call.port}"
    try:
        with Association(call, [ProposedContext(1, VERIFICATION, (_IMPLICIT,))]) as association:
            if association.accepted(VERIFICATION, _IMPLICIT) is None:
                raise CommandError(f"{where} took the association, but no C-ECHO.")
            status = association.echo()
            said = association.answer.implementation_version
    except AssociationError as error:
        raise CommandError(f"{where} {error}.") from error
    if as_json:
        print_json({"status": status, "implementation": said})
    else:
        who = f" ({said})" if said else ""
        say(f"{where}{who} answers: status 0x{status:04X}.")
    if status:
        raise SystemExit(1)
