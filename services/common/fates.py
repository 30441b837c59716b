"""Fates and reasons: how a series or a job ended, and why.

A fate is one of six words; a reason is a stable code with a sentence that a radiographer
understands and a page in ``docs/reasons/``. The sentence is filled with the values that led to
it. Codes never change their meaning; sentences may be improved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from services.common.sentences import Value, counted, in_words


class Fate(StrEnum):
    """How a series (for one model) or a job ended."""

    PROCESSED = "processed"
    NOT_WANTED = "not_wanted"
    REFUSED = "refused"
    WITHHELD = "withheld"
    FAILED = "failed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class ReasonText:
    """What a reason code means.

    Attributes:
        fate: the fate this reason belongs to.
        sentence: a format string over the values, in a radiographer's words.
        remedy: what a person can do about the cause; empty where nothing needs doing.
    """

    fate: Fate
    sentence: str
    remedy: str = ""


def _processed(sentence: str) -> ReasonText:
    return ReasonText(Fate.PROCESSED, sentence)


def _not_wanted(sentence: str, remedy: str = "") -> ReasonText:
    return ReasonText(Fate.NOT_WANTED, sentence, remedy)


def _refused(sentence: str, remedy: str) -> ReasonText:
    return ReasonText(Fate.REFUSED, sentence, remedy)


def _withheld(sentence: str, remedy: str) -> ReasonText:
    return ReasonText(Fate.WITHHELD, sentence, remedy)


def _failed(sentence: str, remedy: str) -> ReasonText:
    return ReasonText(Fate.FAILED, sentence, remedy)


REASONS: Mapping[str, ReasonText] = MappingProxyType(
    {
        # processed
        "segmented": _processed(
            "{model} segmented this series: {found}. The results were handed to delivery."
        ),
        "segmented_flagged": _processed(
            "{model} segmented this series: {found}. Look at it before you rely on it. {remarks} "
            "The results were handed to delivery."
        ),
        "looked_for_not_found": _processed(
            "{model} looked for {segments} in this series and found nothing. "
            "The report says so; there is no overlay to show."
        ),
        "not_found_flagged": _processed(
            "{model} looked for {segments} in this series and found nothing. Look at it before you "
            "rely on it. {remarks} The report says so; there is no overlay to show."
        ),
        "unchanged": _processed(
            "Nothing this model uses changed since revision {earlier_revision}; "
            "its result still stands.{result}"
        ),
        # not wanted
        "attribute_mismatch": _not_wanted(
            "{model} does not want this series: {because}.",
            "If it should be wanted, check how the protocol is named, or the model's selector.",
        ),
        "better_series_chosen": _not_wanted(
            "{model} reads one series of a study, and series {chosen_series} suits it better: "
            "{why}."
        ),
        "role_without_series": _not_wanted(
            "{model} could read this series ({role}), but the study holds no series that goes "
            "with it for another of its inputs: {lacking}.",
            "Send the series that is missing; what comes later starts a new revision by itself.",
        ),
        "too_many_choices": _not_wanted(
            "{model} reads every series of this kind ({role}), and this study has more of them "
            "than the {limit} that are worked on; this one comes behind them.",
            "Send the series that are to be read as a study of their own.",
        ),
        "not_an_image": _not_wanted("This series holds {content}, not images to analyse."),
        "own_result": _not_wanted("This series is a result that Axial made itself."),
        # refused: what the series shows
        "localizer": _refused(
            "This is a localizer (scout), not a diagnostic volume.",
            "Nothing needs doing when the series that it was made for is in the study too.",
        ),
        "single_slice": _refused(
            "This series has {slices} image(s); a volume needs at least {minimum}.",
            "Check that the whole series was sent.",
        ),
        "missing_slice": _refused(
            "At least one slice is missing: between images {before} and {after} the distance is "
            "{gap_mm} mm, elsewhere {spacing_mm} mm.",
            "Send the series again; the late slices start a new revision by themselves.",
        ),
        "duplicate_position": _refused(
            "Images {images} of this series lie at the same position ({position_mm} mm along the "
            "slice direction).",
            "The series may hold several time points or echoes; send one volume per series.",
        ),
        "mixed_orientations": _refused(
            "The images of this series do not all lie in parallel planes (they differ by "
            "{angle_deg} degrees){odd}.",
            "Send each orientation as a series of its own.",
        ),
        "uneven_spacing": _refused(
            "The slices are unevenly spaced: from {least_mm} to {most_mm} mm{odd}{rounded}.",
            "The model needs even spacing; reconstruct the series evenly.",
        ),
        "gantry_tilt": _refused(
            "The slices were taken with a tilted gantry ({tilt_deg} degrees){rounded}.",
            "The model does not accept a tilt; send a reconstruction without it.",
        ),
        "shifted_planes": _refused(
            "The images are shifted against each other within their planes (by up to {shift_mm} "
            "mm); they make no straight stack{odd}{rounded}.",
            "Send the original images, or a reconstruction in one straight stack.",
        ),
        "mixed_matrix": _refused(
            "The images of this series differ in size ({sizes}){odd}.",
            "Send images of one size per series.",
        ),
        "mixed_pixel_spacing": _refused(
            "The images of this series differ in pixel spacing ({spacings}){odd}.",
            "Send images of one resolution per series.",
        ),
        "missing_geometry": _refused(
            "Image {instance} does not say where it lies in the patient ({attribute} is absent "
            "or unreadable){odd}.",
            "Send the original images; derived pictures cannot be placed.",
        ),
        "missing_frame_of_reference": _refused(
            "The UID of the frame of reference is missing, so that a result could not be "
            "placed{odd}.",
            "Send the original images.",
        ),
        "mixed_frame_of_reference": _refused(
            "The images of this series name {count} different frames of reference{odd}.",
            "Send each acquisition as a series of its own.",
        ),
        "colour_image": _refused(
            "The images are in colour ({photometric}); the model reads grey values{odd}.",
            "Send the original grey-value images.",
        ),
        "modality_lut": _refused(
            "The values of {images} image(s) of this series are told by a table (modality "
            "LUT{odd}); this version reads a slope and an intercept.",
            "Send the images as the scanner makes them, with rescale slope and intercept.",
        ),
        "blank_image": _refused(
            "The images show no contrast: nearly all grey values lie at {low}.",
            "Look at the images; a failed acquisition or reconstruction is the usual cause.",
        ),
        "frames_of_reference_differ": _refused(
            "The images for {role} and those for {other} name different frames of reference, so "
            "that nobody knows how they lie to each other.",
            "Send images of one examination, or take a model that aligns them.",
        ),
        "alignment_failed": _refused(
            "The images for {role} could not be aligned with those for {other}: the two agree by "
            "{agreement}, and at least {least} is needed.",
            "Look at both: another patient, another part of the body or strong motion are usual "
            "causes.",
        ),
        "several_volumes": _refused(
            "The series holds {volumes} volumes that differ in {attribute}{odd}.",
            "Send each volume as a series of its own.",
        ),
        "several_volumes_fit": _refused(
            "{fitting} of the {volumes} volumes in this series suit {model} equally well; they "
            "differ in {attribute}.",
            "Send the wanted volume as a series of its own, or state in the model's manifest which "
            "volume it wants.",
        ),
        "incomplete_volume": _refused(
            "The series holds {volumes} volumes, and the one wanted has only {slices} of "
            "{expected} slices{odd}.",
            "Send the series again; the late slices start a new revision by themselves.",
        ),
        "enhanced_multiframe": _refused(
            "The series is a multi-frame object, and where its frames lie cannot be told: "
            "{problem}{odd}.",
            "Send the classic (single-frame) form if the scanner offers it.",
        ),
        "mosaic": _refused(
            "The series holds mosaic images, in which one image tiles all slices, and where the "
            "slices lie cannot be told: {problem}{odd}.",
            "Send the slices as images of their own.",
        ),
        "reversed_rows": _refused(
            "A sequence that stores volumes upside down made {images} image(s) of this series "
            "(GE's pepolar, for distortion correction{odd}); a result could lie mirrored.",
            "Send the anatomical series; field maps and their like hold none.",
        ),
        "conflicting_images": _refused(
            "Several different images came under {count} SOP Instance UID(s) of this series, the "
            "first of them that of image {instance}. Only one of each can be used, so the series "
            "is not whole.",
            "Have the sender give every image a UID of its own and send the series again. "
            "`axial conflicts` lists the images; with `axial conflicts resolve` you decide.",
        ),
        "known_elsewhere": _refused(
            "{count} image(s) of this series came under SOP Instance UIDs that series "
            "{kept_series} of study {kept_study} has already; what was received first is kept, and "
            "the later is not analysed.",
            "Have the sender give copies UIDs of their own and send them again. "
            "`axial conflicts` lists the images; with `axial conflicts resolve` you decide.",
        ),
        "transfer_syntax_unreadable": _refused(
            "The images are compressed in a way this installation cannot read ({syntax}){odd}.",
            "Ask for another transfer syntax at the sender.",
        ),
        "pixels_unreadable": _refused(
            "The pixels of image {instance} cannot be read: {problem}.",
            "Send the series again. If it is refused again, open the image at the system that sent "
            "it: there it shows whether it is damaged there, or written in a way that this version "
            "does not read.",
        ),
        "too_few_slices": _refused(
            "The series has {slices} slices; {model} needs at least {minimum}.",
            "Send the whole volume.",
        ),
        "too_many_slices": _refused(
            "The series has {slices} slices; {model} takes at most {maximum}.",
            "Send a thicker reconstruction, or a smaller part of the body.",
        ),
        "spacing_out_of_range": _refused(
            "The voxels measure {spacing_mm} mm in one direction; {model} accepts {accepted}.",
            "Send a series with slices and pixels of such a size.",
        ),
        "too_large": _refused(
            "{what} would take {needed_mb} megabytes of memory, and {model} may use {allowed_mb}.",
            "Send a thicker reconstruction, or a smaller part of the body.",
        ),
        "extent_too_small": _refused(
            "The volume covers {extent_mm} mm in one direction; {model} needs at least "
            "{minimum_mm} mm.",
            "Send a series that covers the whole structure.",
        ),
        # withheld
        "object_check_failed": _withheld(
            "The {kind} did not pass its checks before leaving: {problem}.",
            "Nothing wrong was sent. Tell the people who run Axial.",
        ),
        "geometry_mismatch": _withheld(
            "The labels do not lie on the grid of the images ({problem}).",
            "Nothing wrong was sent. Tell the people who run Axial.",
        ),
        "implausible_measurement": _withheld(
            "{segment} measures {value} {unit}, outside the plausible {minimum} to {maximum} "
            "{unit}.",
            "Look at the images: wrong contrast, cut-off anatomy or motion are usual causes.",
        ),
        "members_disagree": _withheld(
            "The {members} networks of the model disagree about {segment}: {measure} {value}, "
            "where at most {maximum} is accepted.",
            "Look at the images: an unfamiliar scanner or protocol, motion and rare findings are "
            "usual causes.",
        ),
        # failed
        "model_unavailable": _failed(
            "{model} could not be reached on the inference server: {problem}.",
            "It was tried again and again for some minutes; nothing more happens by itself. The "
            "images are kept: when the server is back, run `axial retry` for the study.",
        ),
        "model_digest_mismatch": _failed(
            "The inference server runs another build of {model} than the one selected.",
            "Build and load the model again (`axial models build`), then run `axial retry` for the "
            "study.",
        ),
        "inference_failed": _failed(
            "{model} broke off while analysing this series: {problem}.",
            "Run `axial retry` for the study; if it fails again, tell the people who run Axial.",
        ),
        "reporting_failed": _failed(
            "The results could not be written: {problem}.",
            "Run `axial retry` for the study; if it fails again, tell the people who run Axial.",
        ),
        "source_missing": _failed(
            "Image {instance} is registered, but its file is not in the study store.",
            "Send the series again: work goes on by itself when all of its images are there. Check "
            "the store's disk.",
        ),
        "internal_error": _failed(
            "Something unforeseen went wrong in stage {stage}: {problem}.",
            "Tell the people who run Axial; the study is kept.",
        ),
        # superseded
        "newer_revision": ReasonText(
            Fate.SUPERSEDED,
            "More images of this study arrived: revision {newer_revision} is judged anew, and what "
            "comes of it counts instead of this.",
        ),
        "taken_elsewhere": ReasonText(
            Fate.SUPERSEDED,
            "{count} image(s) of this series came again as series {kept_series} of study "
            "{kept_study}, and it was decided that those count. What was made of this series "
            "before counts no more.",
            "Results of it that were delivered before stay where they are: have them removed "
            "there. `axial conflicts list --all` shows the images of both.",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A fate with its reason and the values that led to it.

    Raises:
        KeyError: the reason is not in `REASONS`, or a value that the reason's sentence needs is
            missing.
    """

    reason: str
    values: Mapping[str, Value] = field(default_factory=dict[str, Value])

    def __post_init__(self) -> None:
        _ = self.sentence  # an incomplete verdict must fail where it is made

    @property
    def fate(self) -> Fate:
        """The fate that the reason belongs to."""
        return REASONS[self.reason].fate

    @property
    def sentence(self) -> str:
        """The reason in a radiographer's words, filled with the values."""
        return counted(REASONS[self.reason].sentence.format_map(in_words(self.values)))

    @property
    def remedy(self) -> str:
        """What a person can do about the cause; empty where nothing needs doing."""
        return REASONS[self.reason].remedy.format_map(in_words(self.values))


@dataclass(frozen=True, slots=True)
class ReadVerdict(Verdict):
    """A verdict as it was read: from the database, or from a service of another version.

    Strict where a verdict is made, lenient where it is read back: a reason that this version does
    not know is shown as it is, and a value that was not written down as not said.

    Attributes:
        read_fate: the fate that was written down with the reason, or that its bearer means.
    """

    read_fate: str = Fate.FAILED

    def __post_init__(self) -> None:
        """Nothing is demanded of it."""

    @property
    def fate(self) -> Fate:
        """The reason's fate; of a reason that is not known, the fate that was read."""
        known = REASONS.get(self.reason)
        if known is not None:
            return known.fate
        return Fate(self.read_fate) if self.read_fate in set(Fate) else Fate.FAILED

    @property
    def sentence(self) -> str:
        """The reason in a radiographer's words, as far as this version knows them."""
        known = REASONS.get(self.reason)
        if known is None:
            values = ", ".join(f"{name} {value}" for name, value in sorted(self.values.items()))
            given = f" ({values})" if values else ""
            return f"A reason that this version of Axial has no words for: {self.reason}{given}."
        return counted(known.sentence.format_map(_Said(in_words(self.values))))

    @property
    def remedy(self) -> str:
        """What a person can do about the cause, as far as this version knows the reason."""
        known = REASONS.get(self.reason)
        return "" if known is None else known.remedy.format_map(_Said(in_words(self.values)))


class _Said(dict[str, Value]):
    """Values of which some were not written down."""

    def __missing__(self, name: str) -> str:
        return "(not said)"


def read_verdict(
    reason: str | None, values: Mapping[str, Value] | None, fate: str = Fate.FAILED
) -> ReadVerdict:
    """A verdict that was written down, or that another service sent; never an error.

    Args:
        reason: the verdict's code; a code that this version does not know is kept.
        values: what was kept with the reason.
        fate: what was written down, or what the bearer means, where the code is not known.
    """
    kept = dict(values) if isinstance(values, Mapping) else {}
    return ReadVerdict(reason or "internal_error", kept, fate)


class Refusal(Verdict):
    """A `Verdict` by which a room declines its input: a normal answer, not an exception."""
