"""Getting results to their destinations: a durable queue, and one sender thread for each.

A delivery is one result on its way to one destination, a row that survives every process. It is
sent until the destination has it, a status says that it never will, or its attempts are spent;
then it is dead, visible, and can be sent again. Sending twice is harmless: UIDs derive from the
work, so that a destination gets the same object.

`dispatch` opens the senders, `worker` is one, `queue` the rows as a sender sees them (`rows`,
`holding` and `resending` change them), `probing` says when a destination is looked for, and
`transports/` are the ways there.
"""

from services.dimse.statuses import STORE_STATUSES, SendOutcome, judge_status
from services.reporting.delivery.dispatch import Deliveries, open_deliveries
from services.reporting.delivery.queue import DeliveryQueue, Parcel
from services.reporting.delivery.resending import Resent, Wanted
from services.reporting.delivery.rows import Delivery
from services.reporting.delivery.transports.registry import require_carried

__all__ = [
    "STORE_STATUSES",
    "Deliveries",
    "Delivery",
    "DeliveryQueue",
    "Parcel",
    "Resent",
    "SendOutcome",
    "Wanted",
    "judge_status",
    "open_deliveries",
    "require_carried",
]
