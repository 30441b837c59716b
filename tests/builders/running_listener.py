"""What tests ask a running listener, and nobody else does."""

from __future__ import annotations

from services.common.store import parent_of
from services.listener.keeping.shipping import Shipping
from services.listener.service import Listener


def stow_port_of(listener: Listener) -> int | None:
    """The port of the STOW-RS door; None when the door is not opened."""
    stow = listener._stow  # pyright: ignore[reportPrivateUsage]
    return None if stow is None else stow.port


def wait_until_registered(listener: Listener, timeout_s: float) -> bool:
    """Waits until all that was acknowledged is registered; False on timeout."""
    receivers = listener._receivers  # pyright: ignore[reportPrivateUsage]
    registrar = listener._registrar  # pyright: ignore[reportPrivateUsage]
    return receivers.drain(timeout_s) and registrar.flush(timeout_s)


def ship_waiting(shipping: Shipping) -> None:
    """One round for all that waits, in the caller's thread."""
    outbox = shipping._outbox  # pyright: ignore[reportPrivateUsage]
    for group in dict.fromkeys(parent_of(found.key) for found in outbox.list("")):
        shipping._round(group)  # pyright: ignore[reportPrivateUsage]
    shipping._round("")  # pyright: ignore[reportPrivateUsage]
