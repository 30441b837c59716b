"""Settings of the systems that results are sent to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field, StringConstraints, model_validator

from services.common.settings.group import AeTitle, Group

# A name in the registry of kinds, which knows what there is.
KindName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,15}$")]


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


class AnyDestination(Group):
    """What the settings of every destination hold, whatever its transport."""

    name: str
    """What people call it."""
    kinds: tuple[KindName, ...] = ("SEG", "SR")
    """Kinds of results it gets. A kind that refers to another (SR to SEG) follows it, and is held
    back where the destination did not take that."""
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
    """A destination that was not reached is asked this often whether it is there (a DICOM one by
    C-ECHO); when it answers, what waits for it is sent at once."""


class CStoreDestination(AnyDestination):
    """A system that results are sent to by C-STORE."""

    transport: Literal["cstore"] = "cstore"
    """How results get there: `cstore`, over a DICOM association."""
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
    connect_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """The longest wait for the association."""
    response_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """The longest wait for one C-STORE response, and for 64 KiB of an object to be taken."""


def transport_of(value: object) -> str:
    """The tag of a destination among the transports; C-STORE where the destination has no tag.

    The discriminator of `Destination`, once that is a union: settings that were written when there
    was one transport have no tag.

    Args:
        value: a destination, or its settings as they were read.
    """
    if isinstance(value, Mapping):
        return str(cast("Mapping[str, object]", value).get("transport", "cstore"))
    return str(getattr(value, "transport", "cstore"))


# A tagged union by `transport`. With a second member:
# Annotated[Annotated[CStoreDestination, Tag("cstore")] | ..., Discriminator(transport_of)]
Destination = CStoreDestination
