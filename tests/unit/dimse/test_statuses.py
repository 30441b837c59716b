"""The table of C-STORE statuses has no gap against the library's lists."""

from __future__ import annotations

from itertools import pairwise

import pytest
from pynetdicom.status import GENERAL_STATUS, STORAGE_SERVICE_CLASS_STATUS

from services.dimse.statuses import STORE_STATUSES, SendOutcome, judge_status

# The library lists 0x0000 and its ranges one by one; pending and cancel are no C-STORE answers.
_LISTED = {**GENERAL_STATUS, **STORAGE_SERVICE_CLASS_STATUS}
_NOT_FOR_STORE = {0xFF00, 0xFF01}


def test_every_status_of_the_library_is_in_the_table() -> None:
    for status in sorted(set(_LISTED) - _NOT_FOR_STORE):
        entry = judge_status(status)
        assert entry in STORE_STATUSES, hex(status)
        arrived = _LISTED[status][0] in {"Success", "Warning"}
        # The one failure that means arrival: the destination has this UID, hence this object.
        assert (entry.outcome is SendOutcome.DELIVERED) == (arrived or status == 0x0111), hex(
            status
        )


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, SendOutcome.DELIVERED),
        (0xB000, SendOutcome.DELIVERED),
        (0xB007, SendOutcome.DELIVERED),
        (0xA700, SendOutcome.RETRY),
        (0xA7FE, SendOutcome.RETRY),
        (0x0213, SendOutcome.RETRY),
        (0xA900, SendOutcome.PERMANENT),
        (0xC000, SendOutcome.PERMANENT),
        (0xCFFF, SendOutcome.PERMANENT),
        (0x0122, SendOutcome.PERMANENT),
        (0x0124, SendOutcome.PERMANENT),
        (0x9999, SendOutcome.RETRY),  # unknown: tried again, with an end
    ],
)
def test_status_says_whether_to_try_again(status: int, outcome: SendOutcome) -> None:
    assert judge_status(status).outcome is outcome


def test_ranges_do_not_overlap() -> None:
    for before, after in pairwise(STORE_STATUSES):
        assert before.first <= before.last < after.first <= after.last
