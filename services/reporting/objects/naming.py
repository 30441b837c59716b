"""What results are called: kinds, forms, UIDs, series numbers and descriptions.

A *form* is a variant of the same result for destinations that ask for it. The plain form is
always made; it is the one that archives and the IHE AI Results profile want.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from models.manifest import Manifest
from services.common.identity import derived_uid, result_uid
from services.common.settings import Destination
from services.reporting.objects.texts import ascii_text

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR_STORAGE = "1.2.840.10008.5.1.4.1.1.88.34"

_KEEP_EMPTY = "keep_empty_frames"
_KEY_SLICE = "key_slice"


class Kind(StrEnum):
    """What a result is."""

    SEG = "SEG"
    SR = "SR"

    @property
    def sequence(self) -> int:
        """Order of sending within a job: what is referred to goes first."""
        return 0 if self is Kind.SEG else 1

    @property
    def sop_class_uid(self) -> str:
        """The SOP class."""
        return SEGMENTATION_STORAGE if self is Kind.SEG else COMPREHENSIVE_3D_SR_STORAGE


@dataclass(frozen=True, slots=True, order=True)
class Form:
    """A variant of a job's results.

    Attributes:
        keep_empty_frames: the SEG has a frame for every source slice, also without any voxel.
        key_slice: the SR's groups hold a 2D region of the key slice instead of a reference to
            the segment, for viewers that cannot open groups without a region.
    """

    keep_empty_frames: bool = False
    key_slice: bool = False

    def name(self, kind: Kind) -> str:
        """The form's name for one kind, as stored with a result; empty for the plain form.

        An SR names the SEG of its own form, so that it has all forms; a SEG has no key slice.
        """
        parts = [_KEEP_EMPTY] if self.keep_empty_frames else []
        if self.key_slice and kind is Kind.SR:
            parts.append(_KEY_SLICE)
        return "+".join(parts)


PLAIN = Form()


def form_for(destination: Destination) -> Form:
    """The form that a destination asks for."""
    return Form(destination.keep_empty_frames, destination.key_slice_regions)


def forms_wanted(destinations: Iterable[Destination]) -> tuple[Form, ...]:
    """The forms to make: the plain one, and every other that a destination asks for."""
    return tuple(sorted({PLAIN, *(form_for(destination) for destination in destinations)}))


def sop_instance_uid(job_uid: str, kind: Kind, form: str) -> str:
    """SOP Instance UID of a result."""
    return result_uid(job_uid, kind, f"instance:{form}")


def series_uid(job_uid: str, kind: Kind, form: str) -> str:
    """Series Instance UID of a result: one object per series, because viewers show only one."""
    return result_uid(job_uid, kind, f"series:{form}")


def dimension_organization_uid(job_uid: str, form: str) -> str:
    """Dimension Organization UID of a SEG."""
    return result_uid(job_uid, Kind.SEG, f"dimensions:{form}")


def tracking_uid(job_uid: str, segment_number: int) -> str:
    """Tracking UID of a segment by its number in the manifest: SEG and SR share it.

    A new job is a new tracking UID: two analyses of one structure are two things that a later
    assessment can accept or reject on their own.
    """
    return result_uid(job_uid, "tracking", str(segment_number))


def tracking_identifier(manifest: Manifest, label: str) -> str:
    """Tracking identifier of a segment, unique in a job."""
    return ascii_text(f"{manifest.name}: {label}", 64)


def device_uid(model_digest: str) -> str:
    """UID of the algorithm as a device: another build, another device."""
    return derived_uid("device", model_digest)


def series_number(base: int, rank: int, kind: Kind, form: Form) -> int:
    """Series number: ten to a job, in the order of the study's jobs.

    Args:
        base: settings.reporting.series_number_base.
        rank: the job's place among the study's jobs, from 0.
    """
    place = 4 * form.key_slice + 2 * form.keep_empty_frames + kind.sequence
    return base + 10 * rank + place


def series_description(manifest: Manifest, kind: Kind, labels: Iterable[str], revision: int) -> str:
    """LO: model, version, structures, kind; what a person recognises in a list of series."""
    what = "segmentation" if kind is Kind.SEG else "measurements"
    tail = f" {what}" + (f" (rev. {revision})" if revision > 1 else "")
    head = f"{manifest.identity.title} {manifest.version}"
    named = f"{head}: {', '.join(labels)}"
    fits = len(ascii_text(named, 200)) + len(tail) <= 64
    return ascii_text(named if fits else head, 64 - len(tail)) + tail


def content_label(manifest: Manifest) -> str:
    """CS: at most 16 of A-Z, 0-9, underscore and space (PS3.5 6.2)."""
    return "".join(
        letter if letter.isalnum() else "_" for letter in ascii_text(manifest.name, 16).upper()
    )
