"""Which revision and which job starts first: the higher priority, with ageing.

A place is the moment at which what waits would have come had all priorities been one: what has a
high priority counts as having come one lead earlier than what has a normal one, and that one lead
earlier than what has a low one. So a high one overtakes whatever came within the last lead, and
nothing waits for ever: what waited for a lead is as good as one priority higher.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType

# Leads behind the highest; a priority that this version does not know is a normal one.
_BEHIND: Mapping[str, int] = MappingProxyType({"high": 0, "normal": 1, "low": 2})
_NORMAL = 1
# Places are seconds from here; the queue takes numbers from 1 to 2^31 - 1, the lowest first.
_BEGINNING = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_LAST = (1 << 31) - 1


def place_in_queue(priority: str, came_at: dt.datetime, lead_s: float) -> int:
    """The place in a queue; the lowest starts first, equal places in their order.

    Args:
        priority: the study's: high, normal or low.
        came_at: when it was put into the queue.
        lead_s: how much earlier what has the next higher priority counts as having come.
    """
    waited = (came_at - _BEGINNING).total_seconds()
    place = waited + _BEHIND.get(priority, _NORMAL) * lead_s
    return int(min(max(place, 1.0), _LAST))


def urgency(priority: str) -> int:
    """A priority as a number of the request: 1 high, 2 normal or not known, 3 low."""
    return 1 + _BEHIND.get(priority, _NORMAL)
