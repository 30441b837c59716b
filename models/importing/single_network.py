"""One network of a file, as a model of the catalogue.

Such a file says what it computes and nothing of what it is to be shown: axes, spacing and
intensities are what a person says, and the names of the classes too, where none lie beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from models.importing.assembling import Described, manifest_data
from models.importing.card import card_text
from models.importing.carrying import Carried, carried_layers, carried_torchscript, named_beside
from models.importing.case import put_case
from models.importing.codes import read_codes
from models.importing.errors import NotImportableError
from models.importing.publishing import model_folder, write_manifest
from models.importing.reviewing import review_of_what_nobody_said
from models.importing.roles import roles_of
from models.importing.said import Imported, Said, ToReview
from models.importing.segments import Label, segments_of
from models.importing.writing import manifest_text

__all__ = ["Shown", "import_network", "intensity_of"]

_NETWORK: Final = "network"
_SCHEMES: Final = (
    "window:LOW,HIGH (to 0..1), zscore:all, zscore:nonzero, zscore:positive, minmax, "
    "quantiles:LOW,HIGH, none"
)
# Names in a description.
_NAMED: Final = 12
_OVER: Final = ("all", "nonzero", "positive")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a person says of how a network is shown a scan, and of its answer.

    Attributes:
        classes: names of the labels, without the background; of one score a voxel: one name; none:
            those of `colormap.json` beside TensorFlow.js layers, as brainchop has it.
        patch: voxels, first array axis first.
        axes: of the array, as RAS or SAR: where each axis leads.
        spacing_mm: along those axes; None: the scan's own.
        intensity: as `normalise` has it, of `intensity_of`.
        overlap: of neighbouring tiles, as a share of a patch.
        weight: how a tile's answer counts where two overlap.
    """

    classes: tuple[str, ...]
    patch: tuple[int, int, int]
    axes: str
    spacing_mm: tuple[float, float, float] | None
    intensity: dict[str, Any]
    overlap: float = 0.5
    weight: Literal["constant", "gaussian-monai"] = "gaussian-monai"


def intensity_of(text: str) -> dict[str, Any]:
    """Read how values are scaled: "window:-57,164", "zscore:nonzero" and so on.

    Raises:
        NotImportableError: it is none of them.
    """
    kind, _, rest = text.partition(":")
    try:
        if kind == "window":
            low, high = (float(part) for part in rest.split(","))
            return {"kind": "window", "low": low, "high": high, "to": [0.0, 1.0]}
        if kind == "quantiles":
            low, high = (float(part) for part in rest.split(","))
            return {"kind": "quantiles", "low": low, "high": high}
    except ValueError:
        kind = ""
    if kind == "zscore" and rest in _OVER:
        return {"kind": "zscore", "over": rest}
    if kind == "minmax" and not rest:
        return {"kind": "minmax"}
    if kind == "none" and not rest:
        return {"kind": "factor", "factor": 1.0}
    raise NotImportableError(f"{text} is no way to scale values. Say one of {_SCHEMES}.")


def import_network(file: Path, said: Said, shown: Shown, report: Callable[[str], None]) -> Imported:
    """Write a network as a model of the catalogue.

    Args:
        file: as `torch.jit.save` wrote it, [n, 1, *patch] in, one score a class and voxel out; or
            the `model.json` of TensorFlow.js layers that make a MeshNet.
        said: what a person says of the model.
        shown: what a person says of how the network is used.
        report: told of each step that takes time.

    Raises:
        NotImportableError: it is no such file, takes another patch, or answers otherwise.
        BuildError: the scan for comparing cannot be read.
    """
    with model_folder(said.into, said.name) as made:
        report(f"reading {file.name}")
        carried = (
            carried_layers(file, made)
            if file.suffix == ".json"
            else carried_torchscript(file, made, shown.patch)
        )
        classes = shown.classes or named_beside(file)
        labels = _labels(classes, carried.scores)
        codes = read_codes(said.codes, classes) if said.codes else {}
        case, voxels = put_case(said.case, made)
        described = Described(
            title=said.name,
            description=f"{carried.kind}. Segments {_listed(classes)}.",
            citation="",
            licence="",
            copyright="",
            weights=carried.files,
            case=case,
            case_voxels=voxels,
            roles=roles_of(["image"], said.modality, max(shown.spacing_mm or (1.0,)), False),
            networks={_NETWORK: _network(carried, shown.patch)},
            plan=_plan(shown, carried.scores),
            output="found",
            segments=segments_of(labels, codes),
        )
        data = manifest_data(described, said)
        generic = [name for name in classes if name not in codes]
        to_review = (
            ToReview("roles.image.selector", "knows the modality alone; say which series it wants"),
            ToReview("roles.image.gate", "a guess by the spacing; say which scans it takes"),
            ToReview("plan", "as a person said it; compare its labels with those of the authors"),
            *review_of_what_nobody_said(said, "", generic),
        )
        head = f"Imported from {file.name}. Correct it as any other file."
        comments = {"precision": "f32 alone: others have not been compared."}
        write_manifest(made, manifest_text(head, data, comments))
        (made / "README.md").write_text(card_text(data, [("Network", file.name)], to_review))
    return Imported(said.into / said.name, to_review)


def _network(carried: Carried, patch: tuple[int, int, int]) -> dict[str, Any]:
    network: dict[str, Any] = {"weights": carried.weights}
    if carried.architecture is not None:
        network["architecture"] = carried.architecture
    return {**network, "patch": list(patch), "classes": carried.scores}


def _listed(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:_NAMED])
    more = len(classes) - _NAMED
    return shown if more <= 0 else f"{shown} and {more} more"


def _labels(classes: tuple[str, ...], scores: int) -> list[Label]:
    wanted = max(scores - 1, 1)
    if len(classes) != wanted:
        raise NotImportableError(
            f"The network has {scores} scores a voxel, which are {wanted} classes beside the "
            f"background, and {len(classes)} are named ({', '.join(classes)}). Name each with "
            "--class, in their order."
        )
    if len(set(classes)) != len(classes):
        raise NotImportableError(f"A class is named twice ({', '.join(classes)}).")
    return [Label(number, name) for number, name in enumerate(classes, 1)]


def _plan(shown: Shown, scores: int) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {"do": "orient", "in": "image", "axes": shown.axes, "out": "turned"}
    ]
    if shown.spacing_mm is not None:
        steps.append(
            {
                "do": "resample",
                "in": "turned",
                "onto": {"spacing_mm": list(shown.spacing_mm)},
                "order": "linear",
                "centres": "spacing",
                "out": "even",
            }
        )
    rule: dict[str, Any] = {"kind": "argmax", "segments": list(range(1, scores))}
    if scores == 1:
        rule = {"kind": "threshold", "channel": 0, "at": 0.5, "segment": 1}
    tiling = {
        "kind": "tiles",
        "starts": "monai",
        "step": 1.0 - shown.overlap,
        "weight": shown.weight,
        "outside": 0.0,
    }
    before = str(steps[-1]["out"])
    return [
        *steps,
        {"do": "normalise", "in": before, "by": shown.intensity, "out": "scaled"},
        {
            "do": "infer",
            "in": "scaled",
            "members": [_NETWORK],
            "tiling": tiling,
            "activation": "sigmoid" if scores == 1 else "softmax",
            "merge": {"kind": "mean", "of": "logits"},
            "out": "scores",
        },
        {"do": "restore", "in": "scores", "to": "image", "out": "on-slices"},
        {"do": "decide", "in": "on-slices", "rule": rule, "out": "found"},
    ]
