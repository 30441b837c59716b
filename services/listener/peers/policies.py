"""How long a study has to be quiet, and what becomes of conflicts, by who sends it."""

from __future__ import annotations

from services.common.settings import ListenerSettings

KEEP_FIRST = "keep_first"

# PS3.5 table 6.2-1, VR AE.
_TITLE_LENGTH = 16


def title_of(name: str) -> str:
    """What stands for the AE title of a peer that has none: its name, as an AE title can be."""
    return name[:_TITLE_LENGTH].strip().encode("ascii", "replace").decode("ascii")


class QuietPeriods:
    """The peers' quiet periods, in seconds.

    What is recovered from a spool after a crash names its sender by AE title only: a title that
    several peers share means the longest of their quiet periods.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        self._default_s = settings.quiet_period_s
        self._of: dict[str, float] = {}
        for peer in settings.peers:
            own_s = self._default_s if peer.quiet_period_s is None else peer.quiet_period_s
            for name in {peer.name, title_of(peer.name), *peer.every_ae_title}:
                self._of[name] = max(own_s, self._of.get(name, 0.0))

    def of(self, peer: str) -> float:
        """The quiet period of a peer, by its name or its AE title; of a stranger the listener's."""
        return self._of.get(peer, self._default_s)


class ConflictPolicies:
    """What becomes of other bytes that a peer sends under a known SOP Instance UID.

    An AE title that several peers share means the policy on which they agree, else that the first
    instance is kept.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        self._default = settings.conflicts
        self._of: dict[str, str] = {}
        for peer in settings.peers:
            own = peer.conflicts or self._default
            for name in {peer.name, title_of(peer.name), *peer.every_ae_title}:
                self._of[name] = own if self._of.get(name, own) == own else KEEP_FIRST

    def of(self, peer: str) -> str:
        """The policy for a peer, by its name or its AE title; for a stranger the listener's."""
        return self._of.get(peer, self._default)
