"""A trained nnU-Net as a model of the catalogue: manifest, weights and card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from models.importing.archive import unpacked
from models.importing.assembling import Described, manifest_data
from models.importing.card import card_text
from models.importing.case import put_case
from models.importing.codes import read_codes
from models.importing.errors import NotImportableError
from models.importing.nnunet.folder import CHECKPOINT, read_trained
from models.importing.nnunet.preparing import Window, axes_of, plan_steps
from models.importing.nnunet.training import Training, read_training
from models.importing.nnunet.weights import convert_folds, network_name, networks_of
from models.importing.publishing import model_folder, write_manifest
from models.importing.reviewing import review_of_what_nobody_said
from models.importing.roles import roles_of
from models.importing.said import Imported, Said, ToReview
from models.importing.segments import segments_of
from models.importing.writing import manifest_text

__all__ = ["import_nnunet"]

Report = Callable[[str], None]
Steps = list[dict[str, Any]]
Roles = dict[str, dict[str, Any]]
_AS_STORED: Final = set("kji")
_PET: Final = "PT"
# Of values in any unit they make the same.
_OF_ANY_UNIT: Final = ("ZScoreNormalization", "RescaleTo01Normalization")


def import_nnunet(published: Path, said: Said, report: Report) -> Imported:
    """Write a trained model's folder as a model of the catalogue.

    Args:
        published: as nnU-Net v2 leaves it: plans.json, dataset.json, fold_0 and so on; or a zip
            file of that.
        said: what a person says beside it.
        report: told of each step that takes time.

    Raises:
        NotImportableError: it is no such folder, or a plan cannot say the model.
        BuildError: the weights cannot be read safely, or are not the plans' network's.
    """
    with (
        model_folder(said.into, said.name) as made,
        unpacked(published, made.parent) as folder,
    ):
        trained = read_trained(folder, said.folds, said.checkpoint or CHECKPOINT)
        training = read_training(trained, said.trainer_like, report)
        roles = _roles(training, said)
        plan = _plan(training, list(roles), said)
        labels = training.labels.labels
        codes = read_codes(said.codes, tuple(label.name for label in labels)) if said.codes else {}
        weights = convert_folds(trained, training.first, training.architecture, made, report)
        case, voxels = put_case(said.case, made)
        configuration, dataset = training.configuration, trained.dataset
        described = Described(
            title=_title(training),
            description=_description(training),
            citation=dataset.reference,
            licence=dataset.licence,
            copyright="",
            weights=list(weights.values()),
            case=case,
            case_voxels=voxels,
            roles=roles,
            networks=networks_of(
                weights, training.architecture, configuration, training.labels.heads
            ),
            plan=plan,
            output=str(plan[-1]["out"]),
            segments=segments_of(labels, codes),
        )
        data = manifest_data(described, said)
        generic = [label.name for label in labels if label.name not in codes]
        to_review = _to_review(training, roles, plan, said, dataset.licence, generic)
        comments = _comments(training, roles, plan, bool(generic))
        write_manifest(made, manifest_text(_head(training), data, comments))
        (made / "README.md").write_text(card_text(data, _origin(training), to_review))
    return Imported(said.into / said.name, to_review)


def _roles(training: Training, said: Said) -> Roles:
    configuration, plans = training.configuration, training.trained.plans
    spacings = plans.original_median_spacing_after_transp or configuration.spacing
    planes = len(configuration.patch_size) == 2
    roles = roles_of(training.channels, said.modality, max(spacings), planes)
    for place, role in enumerate(roles.values()):
        scheme = configuration.normalization_schemes[place]
        if role["selector"][0]["any_of"] == [_PET] and scheme not in _OF_ANY_UNIT:
            raise NotImportableError(
                f"The channel {training.channels[place]} is normalised by {scheme}, which depends "
                "on the unit of its values: a PET series has counts or Bq/mL, trainings have SUV "
                "as a rule, and no step makes one of the other. Only "
                f"{' and '.join(_OF_ANY_UNIT)} are imported."
            )
    return roles


def _plan(training: Training, roles: Sequence[str], said: Said) -> Steps:
    plans, mirroring = training.trained.plans, training.first.mirroring or ()
    return plan_steps(
        training.configuration,
        plans.intensities,
        roles,
        axes_of(plans, said.axes),
        [network_name(fold) for fold in training.trained.checkpoints],
        Window(said.step, mirroring if said.mirror else ()),
        training.labels.rule,
    )


def _title(training: Training) -> str:
    return training.trained.dataset.name or training.trained.plans.dataset_name or "An nnU-Net"


def _description(training: Training) -> str:
    said = training.trained.dataset.description.rstrip(". ") or _title(training)
    names = ", ".join(label.name for label in training.labels.labels)
    count = len(training.trained.checkpoints)
    networks = "one trained network" if count == 1 else f"{count} trained networks"
    return f"{said}. Segments {names}. nnU-Net v2, {training.first.configuration}, {networks}."


def _origin(training: Training) -> list[tuple[str, str]]:
    return [
        ("Trained with", f"nnU-Net v2, {training.first.trainer}, {training.first.configuration}"),
        ("Data set", training.trained.plans.dataset_name or _title(training)),
        ("Folds", ", ".join(training.trained.checkpoints)),
        ("Network", training.architecture.name.rsplit(".", 1)[-1]),
    ]


def _head(training: Training) -> str:
    return (
        f"Imported from nnU-Net v2: {training.first.trainer}, {training.first.configuration}. "
        "Correct it as any other file; README.md says what to look at before it is served."
    )


def _comments(training: Training, roles: Roles, plan: Steps, generic: bool) -> dict[str, str]:
    named = any(
        rule["attribute"] == "SeriesDescription"
        for role in roles.values()
        for rule in role["selector"]
    )
    words = (
        "The series' name is asked for too, because several contrasts look alike in the headers."
        if named
        else "Which sequence or phase it was trained on, no condition asks for yet."
    )
    axes = str(plan[0]["axes"])
    lie = (
        "Axes as the scan was stored (k slices, j rows, i columns): nnU-Net turns nothing, and "
        "sees each file as it lies. If the training files lay otherwise than DICOM slices do, "
        "write how: SPL is an axial scan's slices, rows and columns."
        if set(axes) == _AS_STORED
        else f"Axes {axes}, as the training files lay."
    )
    comments = {
        "roles": f"To be reviewed: dataset.json says {', '.join(training.channels)} and nothing "
        f"else of what the networks were trained on. {words}",
        "plan": "nnU-Net's order: crop to what is not zero, normalise, resample; logits return to "
        f"the slices and are decided there.\n{lie}",
        "precision": "f32 alone: others have not been compared.",
    }
    if generic:
        comments["segments"] = (
            "To be filled in: category, type and region of every segment. These are generic and "
            "say only that it is some region of the body."
        )
    if training.labels.rule["kind"] == "regions":
        comments["outputs"] = (
            "Regions overlap in the networks and not here: each number is what no later region "
            "covers, as nnU-Net writes them."
        )
    return comments


def _to_review(
    training: Training, roles: Roles, plan: Steps, said: Said, licence: str, generic: list[str]
) -> tuple[ToReview, ...]:
    reviews: list[ToReview] = []
    for name, channel in zip(roles, training.channels, strict=True):
        reviews += [
            ToReview(
                f"roles.{name}.selector",
                f"made from the one word {channel}; say which series it was trained on",
            ),
            ToReview(
                f"roles.{name}.gate", "made from the training's spacing; say which scans it takes"
            ),
        ]
        if "align" in roles[name]:
            reviews.append(
                ToReview(
                    f"roles.{name}.align",
                    "by the frame of reference; say whether the training's were registered",
                )
            )
    if len(roles) > 1:
        reviews.append(ToReview("acceptance.parity.case", "one volume, which every role is shown"))
    if set(str(plan[0]["axes"])) == _AS_STORED:
        reviews.append(
            ToReview("plan.0.axes", "nnU-Net sees files as they lie; say how the training's lay")
        )
    reviews += review_of_what_nobody_said(said, licence, generic)
    post = training.trained.postprocessed
    if post is not None:
        reviews.append(
            ToReview(
                "plan",
                f"{post.name} was not read, it is a pickle: add a step `clean` for each largest "
                "component that it keeps",
            )
        )
    return tuple(reviews)
