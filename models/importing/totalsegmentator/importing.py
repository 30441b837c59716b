"""A task of TotalSegmentator as a model of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.importing.archive import unpacked
from models.importing.assembling import Described, Pinned, manifest_data
from models.importing.card import card_text
from models.importing.case import put_case
from models.importing.codes import SegmentCodes, read_codes, read_known_codes
from models.importing.errors import NotImportableError
from models.importing.nnunet.folder import CHECKPOINT, read_trained
from models.importing.nnunet.training import Training, read_training
from models.importing.nnunet.weights import convert_folds, networks_of
from models.importing.publishing import model_folder, write_manifest
from models.importing.reviewing import review_of_what_nobody_said
from models.importing.roles import roles_of
from models.importing.said import Imported, Said, ToReview
from models.importing.segments import Label, segments_of
from models.importing.totalsegmentator.steps import steps_of
from models.importing.writing import manifest_text

__all__ = ["import_totalsegmentator"]

_CODES: Final = Path(__file__).parent / "codes.yaml"
# What its own command takes where a person names none.
_FOLD: Final = "0"
# It takes scans of any spacing; three times this, and one voxel is a whole organ.
_COARSEST_MM: Final = 2.5
_CITATION: Final = (
    "Wasserthal J, Breit HC, Meyer MT, et al. TotalSegmentator: robust segmentation of 104 "
    "anatomic structures in CT images. Radiology: Artificial Intelligence 2023; 5(5): e230024."
)


def import_totalsegmentator(
    parts: Sequence[Path], said: Said, report: Callable[[str], None]
) -> Imported:
    """Write the part-models of a task, or its one model, as a model of the catalogue.

    Labels are numbered through, part after part in the order given: 291 to 295 become the 117
    numbers of `total`.

    Args:
        parts: folders or zip files as the releases have them.
        said: what a person says beside them.
        report: told of each step that takes time.

    Raises:
        NotImportableError: they are no such files, do not belong together, or cannot be said.
        BuildError: weights that cannot be read safely, or are not their plans' networks'.
    """
    with model_folder(said.into, said.name) as made, ExitStack() as stack:
        converted = [
            _converted(
                stack.enter_context(unpacked(published, made.parent)),
                f"part-{place + 1}" if len(parts) > 1 else "",
                made,
                said,
                report,
            )
            for place, published in enumerate(parts)
        ]
        trainings = [part.training for part in converted]
        labels = _numbered_through(trainings)
        flat = [label for part in labels for label in part]
        codes = _codes(said, flat)
        case, voxels = put_case(said.case, made)
        described = Described(
            title=f"TotalSegmentator, {len(flat)} classes",
            description=_description(trainings, len(flat)),
            citation=_CITATION,
            licence="",
            copyright="",
            weights=[file for part in converted for file in part.files.values()],
            case=case,
            case_voxels=voxels,
            roles=roles_of(trainings[0].channels, said.modality, _COARSEST_MM, False),
            networks={name: one for part in converted for name, one in part.networks.items()},
            plan=steps_of(
                trainings,
                [list(part.files) for part in converted],
                [[label.number for label in part] for part in labels],
                said.step,
            ),
            output="found",
            segments=segments_of(flat, codes),
        )
        data = manifest_data(described, said)
        generic = [label.name for label in flat if label.name not in codes]
        to_review = _to_review(trainings[0], said, generic)
        write_manifest(made, manifest_text(_HEAD, data, _comments(bool(generic))))
        (made / "README.md").write_text(card_text(data, _origin(trainings), to_review))
    return Imported(said.into / said.name, to_review)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part-model: its training, its networks as a manifest has them, and their files, pinned."""

    training: Training
    networks: dict[str, dict[str, Any]]
    files: dict[str, Pinned]


def _converted(
    folder: Path, name: str, made: Path, said: Said, report: Callable[[str], None]
) -> _Part:
    trained = read_trained(folder, said.folds or (_FOLD,), said.checkpoint or CHECKPOINT)
    training = read_training(trained, said.trainer_like, report)
    files = convert_folds(trained, training.first, training.architecture, made, report, name)
    networks = networks_of(
        files, training.architecture, training.configuration, training.labels.heads
    )
    return _Part(training, networks, files)


def _description(trainings: Sequence[Training], classes: int) -> str:
    spacing = max(trainings[0].configuration.spacing)
    by = "one model" if len(trainings) == 1 else f"{len(trainings)} part-models"
    return f"TotalSegmentator at {spacing:g} mm: {classes} classes, found by {by}."


def _numbered_through(trainings: Sequence[Training]) -> list[list[Label]]:
    """Return the labels of each part, with the numbers of the whole."""
    numbered: list[list[Label]] = []
    seen: dict[str, str] = {}
    number = 0
    for training in trainings:
        part: list[Label] = []
        for label in training.labels.labels:
            if label.name in seen:
                raise NotImportableError(
                    f"{training.called} finds {label.name}, and so does "
                    f"{seen[label.name]}. Name each part of a task once."
                )
            seen[label.name] = training.called
            number += 1
            part.append(Label(number, label.name))
        numbered.append(part)
    if number > 255:
        raise NotImportableError(f"The parts have {number} labels together, and 255 fit.")
    return numbered


def _codes(said: Said, labels: Sequence[Label]) -> Mapping[str, SegmentCodes]:
    names = tuple(label.name for label in labels)
    if said.codes is not None:
        return read_codes(said.codes, names)
    return read_known_codes(_CODES, names)


_HEAD: Final = (
    "Imported from TotalSegmentator's weights. Correct it as any other file; README.md says what "
    "to look at before it is served."
)


def _comments(generic: bool) -> dict[str, str]:
    comments = {
        "plan": "TotalSegmentator's order: turned to right, anterior, superior and one spacing, as "
        "whole numbers; each part finds its labels there; a later part wins over an earlier one; "
        "labels come back by the nearest voxel. Its division of very large scans into three is "
        "left out, because tiles are merged here as they come.",
        "precision": "f32 alone: others have not been compared.",
    }
    if generic:
        comments["segments"] = (
            "To be filled in: category, type and region of the segments whose type is Image "
            "Region. These are generic and say only that it is some region of the body."
        )
    return comments


def _origin(trainings: Sequence[Training]) -> list[tuple[str, str]]:
    names = ", ".join(one.called for one in trainings)
    trainers = ", ".join(dict.fromkeys(one.first.trainer for one in trainings))
    return [("Parts", names), ("Trained with", f"nnU-Net v2, {trainers}")]


def _to_review(first: Training, said: Said, generic: list[str]) -> tuple[ToReview, ...]:
    return (
        ToReview(
            "roles.image.selector",
            f"made from the one word {first.channels[0]}; say which series are worth the time",
        ),
        ToReview("roles.image.gate", "a guess; say which scans it takes"),
        ToReview(
            "plan: infer.tiling.step",
            f"{said.step}; TotalSegmentator takes 0.8 for total and total_mr, 0.5 for all else",
        ),
        *review_of_what_nobody_said(said, "", generic),
    )
