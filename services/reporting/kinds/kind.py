"""What a kind of result declares of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from services.common.settings import AnyDestination
from services.reporting.analysis.analysis import Analysis
from services.reporting.objects.forms import PLAIN, Form
from services.reporting.objects.naming import ObjectNames

DICOM = "application/dicom"


@dataclass(frozen=True, slots=True)
class Option:
    """A property of a kind's objects that a destination may ask for.

    Attributes:
        name: in the names of forms.
        asked_by: whether a destination's settings ask for the option.
    """

    name: str
    asked_by: Callable[[AnyDestination], bool]


@dataclass(frozen=True, slots=True)
class Order:
    """One variant of a kind to be written for a job.

    Attributes:
        form: which variant.
        series_number: of the series that the order makes.
        remarks: sentences for the reader, by the segment's number in the manifest.
        predecessor: identity of the earlier result that `form.follows` names; None for none.
    """

    form: Form = PLAIN
    series_number: int = 1
    remarks: dict[int, str] = field(default_factory=dict[int, str])
    predecessor: Dataset | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of result: how its objects are written and checked, and which kinds it needs.

    Attributes:
        names: of the kind and of its objects.
        makes: whether there is anything to write of an analysis.
        write: the objects of a series, each as a file's bytes, in the order of their numbers. Made
            of the analysis and the order alone: other kinds are not written yet, or not any more.
        check: what is wrong with the files that were written, as a sentence without patient data;
            None when nothing is. The files are in the order of the objects.
        options: what destinations may ask for.
        needs: names of the kinds that this kind's objects refer to. A destination that wants those
            kinds too gets this kind's objects after theirs, and only when it has theirs.
        media_type: of the files; a transport says which media types it carries.
        suffix: of the files' names.
    """

    names: ObjectNames
    makes: Callable[[Analysis], bool]
    write: Callable[[Analysis, Order], tuple[bytes, ...]]
    check: Callable[[tuple[Path, ...], Analysis, Order], str | None]
    options: tuple[Option, ...] = ()
    needs: tuple[str, ...] = ()
    media_type: str = DICOM
    suffix: str = ".dcm"

    @property
    def name(self) -> str:
        """The kind's name, in settings, tables and answers."""
        return self.names.kind

    @property
    def is_dicom(self) -> bool:
        """Whether the files are DICOM objects, which dciodvfy judges."""
        return self.media_type == DICOM
