"""The listener as a process: the doors, the registrar, assembly and announcing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from services.common.http_server import HttpServer
from services.common.rpc import serve_rpc
from services.common.service import ServiceContext
from services.common.settings import Settings
from services.common.telemetry import get_logger
from services.listener.assembling.announce import Announcer
from services.listener.assembling.assembly import Assembly
from services.listener.assembling.endings import (
    BrokenOff,
    Endings,
    broken_off,
    is_received_elsewhere,
    note_lost,
)
from services.listener.assembling.examination import Examiner
from services.listener.assembling.under_way import Ending, SeriesUnderWay
from services.listener.assembling.wanting import Wanting
from services.listener.door.messages import (
    AssociationClosed,
    DoorEvent,
    RequestEnded,
    Stored,
    Told,
    Unknown,
)
from services.listener.intake import Intake
from services.listener.keeping.coming_back import studies_that_came_back
from services.listener.keeping.resolving import Resolving
from services.listener.keeping.retention import Retention
from services.listener.keeping.shipping import Shipping
from services.listener.keeping.watermark import Watermark
from services.listener.peers.policies import ConflictPolicies, QuietPeriods
from services.listener.receiving.door_events import DoorEvents
from services.listener.receiving.receivers import Receivers
from services.listener.registering.arrivals import Offered, StoredInstance
from services.listener.registering.lost import LostImages, spooled_images
from services.listener.registering.quarantine import Quarantine
from services.listener.registering.recovery import mark_what_reached_the_store, recover_spool
from services.listener.registering.refusing import KnownOtherwise
from services.listener.registering.registrar import Registrar
from services.listener.stow.opening import open_stow_door

_log = get_logger("listener")

# Ends of associations that are not broken: who fell silent between two instances may have sent all.
_ENDINGS = {"released": Ending.WHOLE, "silent": Ending.SILENT}

# Of the grace period, the part that associations under way may take; the rest is for what
# follows them.
_SHARE_FOR_ASSOCIATIONS = 0.6
# How long the start waits for what was found in the spool; a database that is away takes longer.
_RECOVERED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Listener:
    """The running listener.

    Attributes:
        port: of the DICOM door; secure_port: of the DICOM door with TLS; intake_port: of the gRPC
            door.
    """

    port: int
    secure_port: int | None
    intake_port: int
    _receivers: Receivers
    _registrar: Registrar
    _assembly: Assembly
    _announcer: Announcer
    _shipping: Shipping | None
    _retention: Retention
    _watermark: Watermark
    _stow: HttpServer | None
    _wanting: Wanting | None
    _resolving: Resolving
    _endings: Endings
    _lost: LostImages
    _quarantine: Quarantine

    def dead(self) -> str | None:
        """A sentence when a thread that must run has ended; None while all live.

        A receiver that died is started again and is no reason to end.
        """
        parts = {
            "Instances are not being registered.": self._registrar.alive(),
            "Studies are not being frozen.": self._assembly.alive(),
            "Revisions are not being announced.": self._announcer.alive(),
            "Studies are not examined for models.": (
                self._wanting is None or self._wanting.alive()
            ),
            "STOW-RS requests are not being served.": self._stow is None or self._stow.alive(),
            "Instances are not being sent to the store.": (
                self._shipping is None or self._shipping.alive()
            ),
            "Nothing is being removed from the store.": self._retention.alive(),
            "Conflicts are not being resolved.": self._resolving.alive(),
            "Ends of series are not being noted.": self._endings.alive(),
        }
        return next((sentence for sentence, alive in parts.items() if not alive), None)

    def problems(self) -> list[str]:
        """What keeps studies from being received, registered, frozen or announced."""
        found = [self.dead(), self._registrar.problem(), self._watermark.problem()]
        if not self._receivers.alive():
            found.append("Associations are not being accepted.")
        return [sentence for sentence in found if sentence is not None]

    def remarks(self) -> list[str]:
        """What is wrong although instances are received: a store that is away, images that are lost
        and come back by being sent again, acknowledged objects that could not be registered."""
        remarks = [
            None if self._shipping is None else self._shipping.remark(),
            self._lost.remark(),
            self._quarantine.remark(),
        ]
        return [remark for remark in remarks if remark is not None]


@contextmanager
def open_listener(context: ServiceContext) -> Generator[Listener]:
    """Runs the listener until the context is left.

    The context is left from the outside in: no new association, those under way finish, what they
    brought is registered, then freezing and announcing stop. The next start goes on with what is
    not registered, frozen or announced by then.
    """
    settings = context.settings
    with ExitStack() as resources:
        announcer = resources.enter_context(
            Announcer(context.engine, context.channel_to("orchestrator"))
        )
        under_way = SeriesUnderWay(
            settings.listener.settle_period_s,
            lambda series: wanting.let_go(series) if wanting is not None else None,
            hold_s=settings.listener.idle_timeout_s,
            on_end=lambda study_uid: assembly.let_go(study_uid),
            on_ending=lambda series_uid, ending: endings.note(series_uid, ending),
        )
        listener_id = settings.listener.listener_id
        broken = partial(broken_off, context.engine, listener_id=listener_id)
        assembly = Assembly(
            context.engine,
            announcer.announce,
            registered=lambda seconds: registrar.flush(seconds) and endings.flush(seconds),
            under_way=under_way,
            came_back=partial(studies_that_came_back, context.engine, context.store),
            broken_off=broken,
            elsewhere=partial(
                is_received_elsewhere,
                context.engine,
                listener_id=listener_id,
                hold_s=settings.listener.idle_timeout_s,
            ),
            doors_open=False,
        )
        lost = LostImages()
        shipping = _shipping(context, announcer, lost)
        if shipping is not None:
            resources.enter_context(shipping)
        resolving = resources.enter_context(
            Resolving(context.engine, context.store, partial(_arm, assembly))
        )
        quarantine = Quarantine(settings.data_dir / "quarantine")
        registrar = resources.enter_context(
            Registrar(
                context.engine,
                context.store,
                quarantine,
                listener_id,
                partial(_arm, assembly),
                None if shipping is None else shipping.add,
                None if shipping is None else settings.outbox_dir,
                quiet_period_s=QuietPeriods(settings.listener).of,
                conflicts=ConflictPolicies(settings.listener).of,
                on_changed=partial(_arm, assembly),
                on_taking=lambda: resolving.soon(),
                lost=lost,
            )
        )
        endings = resources.enter_context(Endings(context.engine, listener_id, registrar.flush))
        recover = partial(recover_spool, quarantine=quarantine, offer=registrar.offer)
        if shipping is None:
            mark_what_reached_the_store(context.engine, context.store, listener_id)
        note_lost(context.engine, listener_id)
        recover(settings.spool_dir)
        # Before anything is frozen: a study that was being received is not to be cut in two.
        recovered = registrar.flush(_RECOVERED_WITHIN_S) and registrar.problem() is None
        if recovered and shipping is None:  # all that the spool held is in the store now
            lost.note(spooled_images(context.engine, listener_id))
        resources.enter_context(assembly)
        retention = resources.enter_context(
            Retention(context.engine, context.store, settings.retention)
        )
        known_otherwise = KnownOtherwise(context.engine, registrar.flush)
        wanting = _wanting(
            context,
            assembly,
            lambda seconds: registrar.flush(seconds) and endings.flush(seconds),
            under_way,
            broken,
            resources,
        )
        receivers = resources.enter_context(
            _receivers(settings, registrar, recover, under_way, known_otherwise)
        )
        stow = resources.enter_context(
            open_stow_door(
                settings,
                partial(_offer_from_stow, registrar, under_way),
                is_conflict=known_otherwise,
                finish_within_s=settings.grace_period_s * _SHARE_FOR_ASSOCIATIONS,
            )
        )
        intake = Intake(
            context.engine, assembly, partial(_all_registered, receivers, registrar), resolving.soon
        )
        intake_port = resources.enter_context(
            serve_rpc(settings.listener.intake_address, intake.register, context.credentials)
        )
        assembly.opened()
        _log.info(
            "listening",
            ae_title=settings.listener.ae_title,
            port=receivers.port,
            secure_port=receivers.secure_port,
            stow_port=None if stow is None else stow.port,
        )
        yield Listener(
            receivers.port,
            receivers.secure_port,
            intake_port,
            receivers,
            registrar,
            assembly,
            announcer,
            shipping,
            retention,
            _watermark(context),
            stow,
            wanting,
            resolving,
            endings,
            lost,
            quarantine,
        )


def _shipping(context: ServiceContext, announcer: Announcer, lost: LostImages) -> Shipping | None:
    """What brings instances to a store in S3; a folder takes them from the spool at once."""
    if context.store.folder is not None:
        return None
    settings = context.settings
    return Shipping(
        context.engine,
        settings.outbox_dir,
        context.store,
        settings.listener.listener_id,
        announcer.announce_study,
        lost,
    )


def _watermark(context: ServiceContext) -> Watermark:
    folders = [context.settings.spool_dir, context.store.folder]
    watched = tuple(str(folder) for folder in folders if folder is not None)
    return Watermark(watched, context.settings.store.min_free_bytes)


def _wanting(
    context: ServiceContext,
    assembly: Assembly,
    registered: Callable[[float], bool],
    under_way: SeriesUnderWay,
    broken: BrokenOff,
    resources: ExitStack,
) -> Wanting | None:
    """What looks after series that models want; None where studies are to be whole first."""
    settings = context.settings
    if not settings.listener.start_when_wanted:
        return None
    examiner = resources.enter_context(Examiner(context.channel_to("orchestrator")))
    return resources.enter_context(
        Wanting(
            context.engine,
            assembly,
            examiner.ask,
            registered,
            under_way,
            settings.listener.settle_period_s,
            broken,
        )
    )


def _offer_from_stow(registrar: Registrar, under_way: SeriesUnderWay, message: Told) -> None:
    if isinstance(message, Stored):
        _offer_stored(registrar, under_way, message)
    elif isinstance(message, RequestEnded):
        orderly = message.orderly
        under_way.closed(message.association, Ending.WHOLE if orderly else Ending.BROKEN)


def _offer_stored(registrar: Registrar, under_way: SeriesUnderWay, stored: Stored) -> None:
    under_way.stored(stored.association, stored.study_uid, stored.series_uid)
    registrar.offer(Offered.from_message(stored))


def _receivers(
    settings: Settings,
    registrar: Registrar,
    recover: Any,
    under_way: SeriesUnderWay,
    is_conflict: KnownOtherwise,
) -> Receivers:
    events = DoorEvents(settings.listener.ae_title, lambda: receivers.slots.open_associations())

    def on_event(event: DoorEvent | Unknown) -> None:
        events.note(event)
        if isinstance(event, AssociationClosed):
            registrar.hurry()  # no more of it is on its way
            ending = Ending.BROKEN if event.within else _ENDINGS.get(event.ended, Ending.BROKEN)
            under_way.closed(event.association, ending)

    def on_lost(spool: Path) -> None:
        events.count()
        recover(spool)
        under_way.lost(f"{spool.name}.")

    receivers = Receivers(
        settings,
        partial(_offer_stored, registrar, under_way),
        on_event,
        on_lost,
        finish_within_s=settings.grace_period_s * _SHARE_FOR_ASSOCIATIONS,
        is_conflict=is_conflict,
    )
    return receivers


def _arm(assembly: Assembly, stored: Sequence[StoredInstance]) -> None:
    quiet: dict[str, float] = {}
    for one in stored:
        quiet[one.study_uid] = max(one.quiet_period_s, quiet.get(one.study_uid, 0.0))
    for study_uid, quiet_period_s in quiet.items():
        assembly.instance_stored(study_uid, quiet_period_s)


def _all_registered(receivers: Receivers, registrar: Registrar, timeout_s: float) -> bool:
    """Waits until everything acknowledged so far is registered; False when it is not in time."""
    return receivers.drain(timeout_s) and registrar.flush(timeout_s)
