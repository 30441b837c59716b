"""Settings of the systems that results are sent to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from services.common.settings.group import AeTitle, Group


class DestinationTls(Group):
    """DICOM over TLS to a destination."""

    trusted_certificates: Path
    """Certificates of those who may sign the destination's, PEM."""
    certificate: Path | None = None
    """Our certificate with the chain that leads to its root, PEM. None: we show none."""
    key: Path | None = None
    """Its private key, PEM without a passphrase; readable by the reporting service alone."""
    revocation_list: Path | None = None
    """Certificate revocation lists of those, PEM. None: revocation is not checked."""
    profile: Literal["bcp195", "bcp195_non_downgrading", "bcp195_extended"] = "bcp195"
    """Security profile of PS3.15, as in listener.tls."""
    check_host_name: bool = True
    """Whether the destination's certificate must name its host. Many devices' certificates do
    not: then whose signature it shows must be enough."""

    @model_validator(mode="after")
    def _has_its_key(self) -> DestinationTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or neither")
        return self


class Destination(Group):
    """A system that results are sent to."""

    name: str
    """What people call it."""
    ae_title: AeTitle
    """Its AE title."""
    host: str
    """Its address."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Its DICOM port."""
    calling_ae_title: AeTitle = "AXIAL"
    """The AE title we call with."""
    tls: DestinationTls | None = None
    """TLS to it. None: results cross the network in clear."""
    kinds: tuple[Literal["SEG", "SR"], ...] = ("SEG", "SR")
    """Kinds of results it gets."""
    keep_empty_frames: bool = False
    """Write SEG frames without any voxel too. Some older viewers pair frames by index."""
    key_slice_regions: bool = False
    """Write the SR with an outline of each structure in its key slice instead of a reference to
    the segment. OHIF cannot open reports without such a region; archives want the reference."""
    max_attempts: Annotated[int, Field(ge=1)] = 1000
    """Attempts before a delivery is dead and waits for a person (`axial resend`): about a week,
    with ten minutes between them."""
    first_backoff_s: Annotated[float, Field(gt=0)] = 1.0
    """Wait after the first failed attempt; doubles each time, with jitter."""
    longest_backoff_s: Annotated[float, Field(gt=0)] = 600.0
    """The longest wait between two attempts."""
    probe_period_s: Annotated[float, Field(gt=0)] = 5.0
    """A destination that was not reached is asked by C-ECHO this often; when it answers, what waits
    for it is sent at once."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """The longest wait for the association."""
    response_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """The longest wait for one C-STORE response, and for 64 KiB of an object to be taken."""
