"""How long to wait before something that failed is tried again."""

from __future__ import annotations

FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 5.0


def backoff_s(failures: int, jitter: float) -> float:
    """The wait after that many failures: doubling from 50 ms to 5 s, cut by up to a half.

    Args:
        failures: 1 after the first one.
        jitter: from 0 to 1; several listeners do not all come back at once.
    """
    longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16))
    return longest * (1.0 - 0.5 * jitter)
