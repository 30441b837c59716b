"""What results are called: UIDs, series numbers and descriptions.

Every UID derives from the job, the kind and the form, so that the same work twice makes the same
objects under the same UIDs, and another object another UID.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models.manifest import Manifest
from services.common.identity import derived_uid, result_uid
from services.reporting.objects.forms import Form, mark_of
from services.reporting.objects.texts import ascii_text

# Series numbers of a job: those of its kinds and forms differ.
SERIES_OF_A_JOB = 10


@dataclass(frozen=True, slots=True)
class ObjectNames:
    """What the objects of one kind are called.

    Attributes:
        kind: the kind's name, in settings, tables and answers: SEG.
        called: what a person calls the kind; ends the series description.
        sop_class_uid: the SOP class; empty for what is no DICOM object.
        modality: Modality of its series.
        series_place: the place of its plain form among the series numbers of a job.
        options: the options of a form that change its objects, each with what it adds to the
            series number.
        names_predecessor: whether the kind's objects name the object that they replace.
    """

    kind: str
    called: str
    sop_class_uid: str
    modality: str
    series_place: int
    options: Mapping[str, int] = field(default_factory=dict[str, int])
    names_predecessor: bool = False

    def form_name(self, form: Form) -> str:
        """The form's name as stored with a result, at most 32 characters; empty for the plain form.

        An option that does not change the kind's objects is left out: forms that differ in
        nothing else are one form of this kind.
        """
        options = self._options(form)
        return f"{options}~{mark_of(form.follows)}" if self._follows(form) else options

    def sop_instance_uid(self, job_uid: str, form: Form, instance: int = 1) -> str:
        """SOP Instance UID of a job's object.

        Args:
            instance: its number in its series, from 1.
        """
        uid_form = self._uid_form(form)
        more = f"#{instance}" if instance > 1 else ""
        return sop_instance_uid(job_uid, self.kind, uid_form + more)

    def series_uid(self, job_uid: str, form: Form) -> str:
        """Series Instance UID of a job's objects."""
        return series_uid(job_uid, self.kind, self._uid_form(form))

    def series_number(self, base: int, rank: int, form: Form) -> int:
        """Series number: ten to a job, in the order of the study's jobs.

        Args:
            base: settings.reporting.series_number_base.
            rank: the job's place among the study's jobs, from 0.
        """
        added = sum(self.options[each] for each in form.options if each in self.options)
        return base + SERIES_OF_A_JOB * rank + self.series_place + added

    def _uid_form(self, form: Form) -> str:
        options = self._options(form)
        return f"{options}:follows:{form.follows}" if self._follows(form) else options

    def _options(self, form: Form) -> str:
        return "+".join(option for option in self.options if option in form.options)

    def _follows(self, form: Form) -> bool:
        return self.names_predecessor and bool(form.follows)


def sop_instance_uid(job_uid: str, kind: str, form: str) -> str:
    """SOP Instance UID of a result."""
    return result_uid(job_uid, kind, f"instance:{form}")


def series_uid(job_uid: str, kind: str, form: str) -> str:
    """Series Instance UID of a result: one object per series, because viewers show only one."""
    return result_uid(job_uid, kind, f"series:{form}")


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


def series_description(
    manifest: Manifest, called: str, labels: Iterable[str], revision: int
) -> str:
    """LO: model, version, structures, kind; what a person recognises in a list of series."""
    tail = f" {called}" + (f" (rev. {revision})" if revision > 1 else "")
    head = f"{manifest.identity.title} {manifest.version}"
    named = f"{head}: {', '.join(labels)}"
    fits = len(ascii_text(named, 200)) + len(tail) <= 64
    return ascii_text(named if fits else head, 64 - len(tail)) + tail


def content_label(manifest: Manifest) -> str:
    """CS: at most 16 of A-Z, 0-9, underscore and space (PS3.5 6.2)."""
    return "".join(
        letter if letter.isalnum() else "_" for letter in ascii_text(manifest.name, 16).upper()
    )
