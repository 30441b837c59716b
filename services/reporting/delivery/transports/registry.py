"""The registry of transports: which there are, and what each carries.

A new transport is a module beside the others, a member of the union of destinations in the
settings, and one line in `TRANSPORTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from services.common.settings import AnyDestination, transport_of
from services.reporting.delivery.transports.cstore import CStore
from services.reporting.delivery.transports.transport import Transport
from services.reporting.errors import ReportingError
from services.reporting.kinds.kind import DICOM
from services.reporting.kinds.registry import Kinds


@dataclass(frozen=True, slots=True)
class Entry:
    """A transport as the registry holds it.

    Attributes:
        make: makes the way to a destination from the settings of that transport.
        carries: media types of files (`Kind.media_type`).
    """

    make: Callable[[Any], Transport]
    carries: frozenset[str]


# By the tag that settings name.
TRANSPORTS: Mapping[str, Entry] = MappingProxyType(
    {"cstore": Entry(make=CStore, carries=frozenset({DICOM}))}
)


def transport_for(
    destination: AnyDestination, transports: Mapping[str, Entry] = TRANSPORTS
) -> Transport:
    """The way to a destination."""
    return transports[transport_of(destination)].make(destination)


def require_carried(
    destinations: Iterable[AnyDestination],
    kinds: Kinds,
    transports: Mapping[str, Entry] = TRANSPORTS,
) -> None:
    """Checks that each destination's transport carries what the destination wants.

    Raises:
        ReportingError: a transport does not carry what its destination wants.
    """
    for destination in destinations:
        tag = transport_of(destination)
        for name in destination.kinds:
            if kinds[name].media_type not in transports[tag].carries:
                raise ReportingError(
                    f"The destination '{destination.name}' wants results of kind '{name}', which "
                    f"{tag} does not carry. Correct reporting.destinations."
                )
