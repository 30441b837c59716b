"""What the listener accepts: SOP classes and transfer syntaxes, as data.

The negotiation and the conformance statement are both made from this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.presentation import AllStoragePresentationContexts

VERIFICATION = "1.2.840.10008.1.1"

# In the order in which we prefer them where a sender offers several in one context: as they are,
# then compressed without loss, then with loss. Explicit VR Big Endian is retired and comes last.
# What can be compressed is what the decoders among the dependencies read.
TRANSFER_SYNTAXES: tuple[str, ...] = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202",  # High-Throughput JPEG 2000 Lossless RPCL
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian (retired)
)

# Newer than the dictionary at hand; names of PS3.6 table A-1.
_NEWER_NAMES = {
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
}


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """One SOP class with the transfer syntaxes that we accept for it, preferred ones first."""

    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The SOP class's name in PS3.6 table A-1."""
        return _NEWER_NAMES.get(self.sop_class_uid) or UID(self.sop_class_uid).name


def accepted_contexts(private: Sequence[str] = ()) -> tuple[AcceptedContext, ...]:
    """Verification, and every storage SOP class of PS3.4 B.5 that pynetdicom knows.

    Args:
        private: SOP classes that are stored beside those.
    """
    standard = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    storage = sorted(standard | set(private))
    return (
        AcceptedContext(VERIFICATION, TRANSFER_SYNTAXES[:2]),
        *(AcceptedContext(uid, TRANSFER_SYNTAXES) for uid in storage),
    )
