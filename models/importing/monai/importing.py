"""A bundle of MONAI as a model of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from models.building.converting import convert_to_safetensors
from models.building.errors import BuildError
from models.importing.archive import unpacked
from models.importing.assembling import Described, manifest_data
from models.importing.card import card_text
from models.importing.case import put_case
from models.importing.codes import read_codes
from models.importing.errors import NotImportableError
from models.importing.monai.bundle import Bundle, read_bundle
from models.importing.monai.components import component, components
from models.importing.monai.deciding import answer_steps, patch_of
from models.importing.monai.network import architecture_of, classes_of
from models.importing.monai.preparing import Prepared, prepare
from models.importing.publishing import model_folder, pinned, write_manifest
from models.importing.reviewing import review_of_what_nobody_said
from models.importing.roles import roles_of
from models.importing.said import Imported, Said, ToReview
from models.importing.segments import Label, segments_of
from models.importing.writing import manifest_text

__all__ = ["import_monai_bundle"]

_NETWORK: Final = "network"
# What most bundles of a spacing that is not told were trained on, about.
_USUAL_MM: Final = 1.0


def import_monai_bundle(published: Path, said: Said, report: Callable[[str], None]) -> Imported:
    """Write a bundle as a model of the catalogue.

    Args:
        published: its folder, or a zip file of it.
        said: what a person says beside it; `checkpoint` names the file of weights.
        report: told of each step that takes time.

    Raises:
        NotImportableError: it is no bundle, or a plan cannot say what it does.
        BuildError: the scan for comparing cannot be read.
    """
    with (
        model_folder(said.into, said.name) as made,
        unpacked(published, made.parent) as folder,
    ):
        bundle = read_bundle(folder, said.checkpoint)
        configuration = bundle.configuration
        architecture = architecture_of(configuration)
        classes = classes_of(architecture, configuration)
        prepared = prepare(components(configuration, "preprocessing"), bundle.image_key)
        inferer = component(configuration, configuration.get("inferer"), "inferer")
        patch = patch_of(inferer)
        after = (
            components(configuration, "postprocessing") if "postprocessing" in configuration else []
        )
        plan = answer_steps(inferer, after, prepared, [_NETWORK], classes)
        labels = _labels(bundle, classes)
        codes = read_codes(said.codes, tuple(one.name for one in labels)) if said.codes else {}
        file = made / f"{_NETWORK}.safetensors"
        report(f"converting {bundle.weights.name}")
        try:
            convert_to_safetensors(architecture, bundle.weights, file)
        except BuildError as error:
            raise NotImportableError(f"{bundle.weights.name}: {error}") from error
        weights = pinned(made, file)
        case, voxels = put_case(said.case, made)
        modality = said.modality or bundle.image.modality
        described = Described(
            title=bundle.metadata.name or said.name,
            description=_description(bundle, labels),
            citation=" ".join(bundle.metadata.references[:1]),
            licence="",
            copyright=bundle.metadata.copyright,
            weights=[weights],
            case=case,
            case_voxels=voxels,
            roles=roles_of(
                [bundle.image.modality or "image"],
                _dicom(modality),
                max(prepared.spacing_mm or [_USUAL_MM]),
                False,
            ),
            networks={
                _NETWORK: {
                    "weights": {
                        "source": "beside",
                        "path": weights["path"],
                        "format": "safetensors",
                    },
                    "architecture": architecture.model_dump(),
                    "patch": patch,
                    "classes": classes,
                }
            },
            plan=plan,
            output="found",
            segments=segments_of(labels, codes),
        )
        data = manifest_data(described, said)
        generic = [label.name for label in labels if label.name not in codes]
        to_review = _to_review(bundle, prepared, plan, said, generic)
        write_manifest(made, manifest_text(_head(bundle), data, _comments(bool(generic))))
        (made / "README.md").write_text(
            card_text(data, _origin(bundle, architecture.name), to_review)
        )
    return Imported(said.into / said.name, to_review)


def _fades(plan: list[dict[str, Any]]) -> bool:
    """Return whether scores of a cropped image return before they are decided."""
    done = [step["do"] for step in plan]
    return "crop" in done and done.index("restore") < done.index("decide")


def _labels(bundle: Bundle, classes: int) -> list[Label]:
    """Return the labels 1 and up, by the names that the metadata has for them.

    A network of one score has one label, and its name may stand under any number.
    """
    names = _by_number(bundle.answer.channel_def, bundle)
    if classes == 1:
        found = list(names.values())[:1] if len(names) == 1 else [names.get(1, "")]
    else:
        found = [names.get(number, "") for number in range(1, classes)]
    if not found or not all(found):
        raise NotImportableError(
            f"{bundle.folder}/configs/metadata.json: the answer's channel_def names "
            f"{', '.join(names.values()) or 'nothing'}, and the network has {classes} classes. "
            "Name each."
        )
    return [Label(number, name) for number, name in enumerate(found, 1)]


def _by_number(channel_def: Mapping[str, str], bundle: Bundle) -> dict[int, str]:
    try:
        return {int(number): name for number, name in channel_def.items()}
    except ValueError as error:
        raise NotImportableError(
            f"{bundle.folder}/configs/metadata.json: channel_def has keys that are no numbers."
        ) from error


def _dicom(modality: str) -> str:
    """Return DICOM's word for a bundle's modality; empty where its own name says it."""
    return {"CT": "CT", "MR": "MR", "MRI": "MR"}.get(modality.upper(), modality.upper())


def _description(bundle: Bundle, labels: list[Label]) -> str:
    names = ", ".join(label.name for label in labels)
    said = bundle.metadata.description.rstrip(". ") or bundle.metadata.name or "A bundle of MONAI"
    return f"{said}. Segments {names}. A bundle of MONAI."


def _head(bundle: Bundle) -> str:
    version = f" {bundle.metadata.version}" if bundle.metadata.version else ""
    return (
        f"Imported from MONAI's bundle {bundle.metadata.name or bundle.folder.name}{version}. "
        "Correct it as any other file; README.md says what to look at before it is served."
    )


def _origin(bundle: Bundle, architecture: str) -> list[tuple[str, str]]:
    metadata = bundle.metadata
    facts = [
        ("Bundle", " ".join(filter(None, [metadata.name, metadata.version]))),
        ("Made for MONAI", metadata.monai_version),
        ("Authors", metadata.authors),
        ("Network", architecture.rsplit(".", 1)[-1]),
    ]
    return [(what, value) for what, value in facts if value]


def _comments(generic: bool) -> dict[str, str]:
    comments = {
        "plan": "The bundle's transforms in their order. MONAI sees x first: axes RAS.",
        "precision": "f32 alone: others have not been compared.",
    }
    if generic:
        comments["segments"] = (
            "To be filled in: category, type and region of every segment. These are generic and "
            "say only that it is some region of the body."
        )
    return comments


def _to_review(
    bundle: Bundle,
    prepared: Prepared,
    plan: list[dict[str, Any]],
    said: Said,
    generic: list[str],
) -> tuple[ToReview, ...]:
    reviews = [
        ToReview(
            "roles.image.selector",
            f"made from the one word {bundle.image.modality or said.modality}; say which series it "
            "was trained on",
        ),
        ToReview("roles.image.gate", "a guess by the spacing; say which scans it takes"),
    ]
    if prepared.axes == "ijk":
        reviews.append(
            ToReview("plan.0.axes", "the bundle turns nothing; say how the training files lay")
        )
    if plan[-1]["do"] == "restore" and prepared.changes_grid:
        reviews.append(
            ToReview(
                "plan: restore",
                "labels return by the nearest voxel; a bundle without Invertd leaves them on the "
                "network's grid",
            )
        )
    if _fades(plan):
        reviews.append(
            ToReview(
                "plan: crop, restore",
                "scores end where the image was cropped; MONAI lets them fade a voxel beyond",
            )
        )
    return (*reviews, *review_of_what_nobody_said(said, "", generic))
