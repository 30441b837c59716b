"""The STOW-RS door as the settings want it: nothing where they name no port."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from services.common.headers import scheme
from services.common.http_server import HttpServer
from services.common.settings import Settings
from services.dimse.tls import TlsError, TlsFiles
from services.listener.door.spool import Spool, SpoolError
from services.listener.door.store import Facilities, IsConflict, Tell
from services.listener.errors import ListenerError
from services.listener.peers.admission_rules import admission_rules, tls_files
from services.listener.peers.presentation_contexts import VERIFICATION, accepted_contexts
from services.listener.stow.app import StowDoor
from services.listener.stow.server import open_stow

# The door's own folder among the spools.
_SPOOL = "stow"


@contextmanager
def open_stow_door(
    settings: Settings,
    tell: Tell,
    *,
    finish_within_s: float,
    is_conflict: IsConflict = lambda *_: False,
) -> Generator[HttpServer | None]:
    """Runs the door until the context is left; yields None where the settings open no door.

    Args:
        tell: called with `Stored` of each instance before its sender hears of success, and with
            `RequestEnded` at the end of each request.
        is_conflict: tells whether other bytes are known under a SOP Instance UID.
        finish_within_s: how long requests under way may go on after the context is left.

    Raises:
        AxialError: the port, the spool or a certificate file cannot be used.
    """
    listener = settings.listener
    if listener.stow.port is None:
        yield None
        return
    files: TlsFiles | None = tls_files(listener.tls) if listener.stow.tls else None
    try:
        spool = Spool(settings.spool_dir / _SPOOL, listener.stow.max_instance_bytes)
    except SpoolError as error:
        raise ListenerError(str(error)) from error
    contexts = {
        context.sop_class_uid: context.transfer_syntaxes
        for context in accepted_contexts(listener.private_sop_classes)
        if context.sop_class_uid != VERIFICATION
    }
    door = StowDoor(
        settings=listener.stow,
        access_tokens=settings.access.tokens,
        rules=admission_rules(listener),
        facilities=Facilities(spool, scheme(), settings.store.min_free_bytes, tell, is_conflict),
        contexts=contexts,
    )
    try:
        with open_stow(door, files, finish_within_s=finish_within_s) as server:
            yield server
    except TlsError as error:
        raise ListenerError(str(error)) from error
    finally:
        spool.close()
