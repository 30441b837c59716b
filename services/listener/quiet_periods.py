"""How long a study has to be quiet, by who sends it."""

from __future__ import annotations

from services.common.settings import ListenerSettings

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
