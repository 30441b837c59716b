"""A trained nnU-Net as a model of the catalogue: manifest, weights and card."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.building.converting import save_as_safetensors
from models.building.errors import BuildError
from models.building.reference_volumes import read_nifti
from models.building.weights import NnunetCheckpoint
from models.importing.assembling import Described, Pinned, manifest_data
from models.importing.card import card_text
from models.importing.codes import SegmentCodes, read_codes
from models.importing.errors import NotImportableError
from models.importing.nnunet.folder import Trained, read_checkpoint, read_trained
from models.importing.nnunet.labels import Labels, labels_of
from models.importing.nnunet.network import architecture_of, require_trainer
from models.importing.nnunet.preparing import Window, axes_of, plan_steps
from models.importing.nnunet.published import Configuration
from models.importing.publishing import model_folder, pinned, write_manifest
from models.importing.roles import Wanted, role_of, wanted_by
from models.importing.said import Imported, Said, ToReview
from models.importing.segments import segments_of
from models.importing.writing import manifest_text
from models.manifest.networks import ArchitectureOf

__all__ = ["import_nnunet"]

Report = Callable[[str], None]
_CASE: Final = "case.nii.gz"


@dataclass(frozen=True, slots=True)
class _Model:
    """A trained model, with what its plans come to.

    Attributes:
        first: the checkpoint of the first fold, which speaks for the others.
        codes: by the labels' names; empty: nobody gave any.
    """

    trained: Trained
    first: NnunetCheckpoint
    configuration: Configuration
    wanted: Wanted
    labels: Labels
    architecture: ArchitectureOf
    plan: list[dict[str, Any]]
    codes: dict[str, SegmentCodes]


def import_nnunet(folder: Path, said: Said, report: Report) -> Imported:
    """Write a trained model's folder as a model of the catalogue.

    Args:
        folder: as nnU-Net v2 leaves it: plans.json, dataset.json, fold_0 and so on.
        said: what a person says beside it.
        report: told of each step that takes time.

    Raises:
        NotImportableError: it is no such folder, or a plan cannot say the model.
        BuildError: the weights cannot be read safely, or are not the plans' network's.
    """
    trained = read_trained(folder, said.folds, said.checkpoint)
    with model_folder(said.into, said.name) as made:
        model = _read(trained, said, report)
        weights = _convert(model, made, report)
        case, voxels = _case(said, made)
        data = manifest_data(_described(model, weights, case, voxels), said)
        to_review = _to_review(model, said)
        write_manifest(made, manifest_text(_head(model), data, _comments(model)))
        (made / "README.md").write_text(card_text(data, _origin(model), to_review))
    return Imported(said.into / said.name, to_review)


def _read(trained: Trained, said: Said, report: Report) -> _Model:
    fold = next(iter(trained.checkpoints))
    report(f"reading fold {fold}")
    first = read_checkpoint(trained, fold)
    require_trainer(first.trainer, said.trainer_like)
    plans, dataset = trained.plans, trained.dataset
    configuration = plans.configuration(first.configuration)
    if configuration.previous_stage is not None:
        raise NotImportableError(
            f"{first.configuration} is a cascade: it sees what {configuration.previous_stage} "
            "found, and a plan cannot say that yet. Import a configuration that stands alone, "
            "3d_fullres or 3d_lowres."
        )
    if plans.label_manager != "LabelManager":
        raise NotImportableError(
            f"plans.json: the label manager {plans.label_manager} is not known, only LabelManager."
        )
    if len(dataset.channels) != 1:
        raise NotImportableError(
            f"The model takes {len(dataset.channels)} channels ({', '.join(dataset.channels)}), "
            "and this version builds models of one series. Import one that takes a single channel."
        )
    labels = labels_of(dataset)
    names = tuple(label.name for label in labels.labels)
    return _Model(
        trained=trained,
        first=first,
        configuration=configuration,
        wanted=wanted_by(dataset.channels[0], said.modality),
        labels=labels,
        architecture=architecture_of(configuration, 1, labels.heads),
        plan=plan_steps(
            configuration,
            plans.intensities,
            axes_of(plans, said.axes),
            [_network_name(one) for one in trained.checkpoints],
            Window(said.step, (first.mirroring or ()) if said.mirror else ()),
            labels.rule,
        ),
        codes={} if said.codes is None else read_codes(said.codes, names),
    )


def _network_name(fold: str) -> str:
    return f"fold-{fold}"


def _convert(model: _Model, made: Path, report: Report) -> dict[str, Pinned]:
    """Write the weights of every fold beside the manifest; returns them by network, pinned."""
    trained, first = model.trained, model.first
    files: dict[str, Pinned] = {}
    for place, fold in enumerate(trained.checkpoints):
        checkpoint = first if place == 0 else read_checkpoint(trained, fold)
        if (checkpoint.trainer, checkpoint.configuration) != (first.trainer, first.configuration):
            raise NotImportableError(
                f"{trained.checkpoints[fold]} is of {checkpoint.trainer} "
                f"{checkpoint.configuration}, and the fold before of {first.trainer} "
                f"{first.configuration}. Folds of one training belong together."
            )
        report(f"converting fold {fold}")
        file = made / f"{_network_name(fold)}.safetensors"
        try:
            save_as_safetensors(model.architecture, checkpoint.weights, file)
        except BuildError as error:
            raise NotImportableError(f"{trained.checkpoints[fold]}: {error}") from error
        files[_network_name(fold)] = pinned(made, file)
    return files


def _case(said: Said, made: Path) -> tuple[Pinned | None, int]:
    """Put the scan that builds are compared on beside the manifest; a made volume needs no file."""
    if said.case is None:
        return None, 0
    name = _CASE if said.case.name.endswith(".gz") else _CASE.removesuffix(".gz")
    voxels = int(read_nifti(said.case).pixels.size)
    shutil.copyfile(said.case, made / name)
    return pinned(made, made / name), voxels


def _described(
    model: _Model, weights: dict[str, Pinned], case: Pinned | None, voxels: int
) -> Described:
    dataset, plans, configuration = model.trained.dataset, model.trained.plans, model.configuration
    title = dataset.name or plans.dataset_name or "A trained nnU-Net"
    names = ", ".join(label.name for label in model.labels.labels)
    what = f"nnU-Net v2, {model.first.configuration}, {len(weights)} trained network"
    description = f"{dataset.description or title}. Segments {names}. {what}".replace("..", ".")
    architecture = model.architecture.model_dump()
    patch = list(configuration.patch_size)
    planes = len(patch) == 2
    coarsest = max(plans.original_median_spacing_after_transp or configuration.spacing)
    return Described(
        title=title,
        description=description + ("s." if len(weights) > 1 else "."),
        citation=dataset.reference,
        licence=dataset.licence,
        copyright="",
        weights=list(weights.values()),
        case=case,
        case_voxels=voxels,
        role=role_of(model.wanted, coarsest, planes),
        networks={
            name: {
                "weights": {"source": "beside", "path": file["path"], "format": "safetensors"},
                "architecture": architecture,
                "patch": [1, *patch] if planes else [*patch],
                "classes": model.labels.heads,
            }
            for name, file in weights.items()
        },
        plan=model.plan,
        output=str(model.plan[-1]["out"]),
        segments=segments_of(model.labels.labels, model.codes),
    )


def _origin(model: _Model) -> list[tuple[str, str]]:
    folds = ", ".join(model.trained.checkpoints)
    return [
        ("Trained with", f"nnU-Net v2, {model.first.trainer}, {model.first.configuration}"),
        ("Data set", model.trained.plans.dataset_name or model.trained.dataset.name or "not named"),
        ("Folds", folds),
        ("Network", model.architecture.name.rsplit(".", 1)[-1]),
    ]


def _head(model: _Model) -> str:
    return (
        f"Imported from nnU-Net v2: {model.first.trainer}, {model.first.configuration}. Correct it "
        "as any other file; README.md says what to look at before it is served."
    )


def _comments(model: _Model) -> dict[str, str]:
    words = (
        "The series' name is asked for too, because several contrasts look alike in the headers."
        if model.wanted.words
        else "Which sequence or phase it was trained on, no condition asks for yet."
    )
    axes = str(model.plan[0]["axes"])
    lie = (
        "Axes as the scan was stored (k slices, j rows, i columns): nnU-Net turns nothing, and "
        "sees each file as it lies. If the training files lay otherwise than DICOM slices do, "
        "write how: SPL is an axial scan's slices, rows and columns."
        if set(axes) == set("kji")
        else f"Axes {axes}, as the training files lay."
    )
    comments = {
        "roles": f"To be reviewed: dataset.json says {model.wanted.channel} and nothing else of "
        f"what the networks were trained on. {words}",
        "plan": f"nnU-Net's order: crop to what is not zero, normalise, resample; logits return to "
        f"the slices and are decided there.\n{lie}",
        "precision": "f32 alone: others have not been compared.",
    }
    if not model.codes:
        comments["segments"] = (
            "To be filled in: category, type and region of every segment. These are generic and "
            "say only that it is some region of the body."
        )
    if model.labels.rule["kind"] == "regions":
        comments["outputs"] = (
            "Regions overlap in the networks and not here: each number is what no later region "
            "covers, as nnU-Net writes them."
        )
    return comments


def _to_review(model: _Model, said: Said) -> tuple[ToReview, ...]:
    reviews = [
        ToReview(
            "roles.image.selector",
            f"made from the one word {model.wanted.channel}; say which series it was trained on",
        ),
        ToReview("roles.image.gate", "made from the training's spacing; say which scans it takes"),
    ]
    if set(str(model.plan[0]["axes"])) == set("kji"):
        reviews.append(
            ToReview("plan.0.axes", "nnU-Net sees files as they lie; say how the training's lay")
        )
    if not model.codes:
        reviews.append(
            ToReview(
                "segments.*.category, type, region",
                "generic codes, which tell a reader nothing; give --codes FILE, or write them",
            )
        )
    if said.case is None:
        reviews.append(
            ToReview(
                "acceptance.parity.case",
                "a made volume, in which a trained network may find nothing; give --case FILE, a "
                "scan that shows what it segments",
            )
        )
    for field, told in (
        ("identity.licence", said.licence or model.trained.dataset.licence),
        ("identity.manufacturer", said.manufacturer),
    ):
        if not told:
            reviews.append(ToReview(field, "nobody said it"))
    post = model.trained.postprocessed
    if post is not None:
        reviews.append(
            ToReview(
                "plan",
                f"{post.name} was not read, it is a pickle: add a step `clean` for each largest "
                "component that it keeps",
            )
        )
    return tuple(reviews)
