"""The listener as a process: the DICOM door, assembly, announcing, and the gRPC door."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from services.common.rpc import serve_rpc
from services.common.service import ServiceContext
from services.common.telemetry import get_logger
from services.listener.announce import Announcer
from services.listener.assembly import Assembly
from services.listener.intake import Intake
from services.listener.reception import Reception
from services.listener.recovery import recover
from services.listener.scp import Scp

_log = get_logger("listener")

# Of the grace period, the part that associations under way may take; the rest is for what
# follows them.
_SHARE_FOR_ASSOCIATIONS = 0.6


@dataclass(frozen=True, slots=True)
class Listener:
    """The running listener.

    Attributes:
        port: of the DICOM door; intake_port: of the gRPC door.
    """

    port: int
    intake_port: int
    _scp: Scp
    _assembly: Assembly
    _announcer: Announcer

    def dead(self) -> str | None:
        """A sentence when a thread that must run has ended; None while all live."""
        problems = self.problems()
        return problems[0] if problems else None

    def problems(self) -> list[str]:
        """What keeps studies from being received, frozen or announced."""
        parts = {
            "Associations are not being accepted.": self._scp.alive(),
            "Studies are not being frozen.": self._assembly.alive(),
            "Revisions are not being announced.": self._announcer.alive(),
        }
        return [sentence for sentence, alive in parts.items() if not alive]


@contextmanager
def open_listener(context: ServiceContext) -> Generator[Listener]:
    """Runs the listener until the context is left.

    It is left from the outside in: no new association, those under way finish, then freezing and
    announcing stop. What is not frozen or announced by then is taken up at the next start.
    """
    settings = context.settings
    recover(context.engine, context.store)
    with ExitStack() as resources:
        announcer = resources.enter_context(
            Announcer(context.engine, settings.orchestrator.address)
        )
        assembly = resources.enter_context(
            Assembly(context.engine, settings.listener.quiet_period_s, announcer.announce)
        )
        intake = Intake(context.engine, assembly)
        intake_port = resources.enter_context(
            serve_rpc(settings.listener.intake_address, intake.register)
        )
        reception = Reception(context.engine, context.store, assembly.instance_stored)
        scp = resources.enter_context(
            Scp(
                settings.listener,
                reception.receive,
                finish_within_s=settings.grace_period_s * _SHARE_FOR_ASSOCIATIONS,
            )
        )
        _log.info("listening", ae_title=settings.listener.ae_title, port=scp.port)
        yield Listener(scp.port, intake_port, scp, assembly, announcer)
