"""Whether a body comes on, or drips to keep a place taken."""

from __future__ import annotations

# In each span of the patience: far below any network that images are sent over, far above a byte
# now and then.
LEAST_BYTES = 64 << 10


class Progress:
    """The time that a body was waited for, and how much came in that time.

    Only waiting counts: the time of our own disk is not the sender's.

    Args:
        patience_s: within this much waiting `LEAST_BYTES` must come, or the body's end.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waited_s = 0.0
        self._bytes = 0

    @property
    def left_s(self) -> float:
        """How long the next bytes may be waited for."""
        return max(0.0, self._patience_s - self._waited_s)

    def came(self, waited_s: float, count: int) -> None:
        """So many bytes came after a wait."""
        self._waited_s += waited_s
        self._bytes += count
        if self._bytes >= LEAST_BYTES:
            self._waited_s, self._bytes = 0.0, 0
