"""``axial models import``: a published model becomes a folder of the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.model_explained import three_numbers
from services.cli.output import CommandError, console, errors, print_json, reports_errors
from services.common.settings import load_settings

if TYPE_CHECKING:
    from models.importing import Imported

app = typer.Typer(
    no_args_is_help=True,
    help="Make a model's folder of what others published; a person then looks it over.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Option(help="The model's name: small letters, digits, hyphens.")]
Into = Annotated[Path | None, typer.Option(help="Where the folder goes (default: the catalogue).")]
Codes = Annotated[
    Path | None,
    typer.Option(help="YAML: each label's name with its category, type and region."),
]
Modality = Annotated[
    str, typer.Option(help="The series' modality, where the channel's name does not say it.")
]
Case = Annotated[
    Path | None,
    typer.Option(help="A NIfTI scan that shows what it segments: builds are compared on it."),
]
Licence = Annotated[str, typer.Option(help="Of the weights.")]
Manufacturer = Annotated[str, typer.Option(help="Who trained them.")]
TrainerLike = Annotated[
    str, typer.Option(help="A trainer of nnU-Net that infers as the model's own does.")
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


@app.command(
    epilog="Examples: `axial models import nnunet "
    "nnUNet_results/Dataset003_Liver/nnUNetTrainer__nnUNetPlans__3d_fullres --name liver-ct`; "
    "`axial models import nnunet FOLDER --name liver-ct --fold 0 --codes liver-codes.yaml "
    "--case liver_001.nii.gz`"
)
@reports_errors
def nnunet(
    folder: Annotated[
        Path,
        typer.Argument(help="A trained model: plans.json, dataset.json, fold_0; or its zip file."),
    ],
    name: Name,
    into: Into = None,
    fold: Annotated[
        list[str] | None,
        typer.Option(
            help="A fold, 0 to 4 or all; may be repeated (default: all that are numbered)."
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="Which file of a fold.")] = "checkpoint_final.pth",
    codes: Codes = None,
    modality: Modality = "",
    axes: Annotated[
        str,
        typer.Option(help="How the training files lie, first array axis first: SPL, SAR, kji."),
    ] = "",
    case: Case = None,
    step: Annotated[
        float, typer.Option(help="From one tile to the next, as a share of the tile.")
    ] = 0.5,
    mirror: Annotated[
        bool, typer.Option(help="Show the networks mirrored images too, if they were trained so.")
    ] = True,
    trainer_like: TrainerLike = "",
    licence: Licence = "",
    manufacturer: Manufacturer = "",
    as_json: Json = False,
) -> None:
    """Import a model that nnU-Net v2 trained."""
    from models.importing import Said, import_nnunet

    said = Said(
        name=name,
        into=into or load_settings().settings.catalogue_dir,
        folds=tuple(fold or ()),
        checkpoint=checkpoint,
        codes=codes,
        modality=modality,
        axes=axes,
        case=case,
        licence=licence,
        manufacturer=manufacturer,
        trainer_like=trainer_like,
        step=step,
        mirror=mirror,
    )
    _tell(import_nnunet(folder, said, _silent if as_json else _progress), as_json)


@app.command(
    epilog="Examples: `axial models import totalsegmentator Dataset291_*.zip Dataset292_*.zip "
    "Dataset293_*.zip Dataset294_*.zip Dataset295_*.zip --name total-ct`; "
    "`axial models import totalsegmentator Dataset297_*.zip --name total-ct-3mm`"
)
@reports_errors
def totalsegmentator(
    parts: Annotated[
        list[Path],
        typer.Argument(
            help="All parts of one task in their order: zip files of a release, or folders."
        ),
    ],
    name: Name,
    into: Into = None,
    codes: Codes = None,
    modality: Modality = "",
    case: Case = None,
    step: Annotated[
        float, typer.Option(help="From one tile to the next: 0.8 for total, 0.5 for other tasks.")
    ] = 0.8,
    trainer_like: TrainerLike = "",
    licence: Licence = "",
    manufacturer: Manufacturer = "",
    as_json: Json = False,
) -> None:
    """Import a task of TotalSegmentator; labels are numbered through, part after part."""
    from models.importing import Said, import_totalsegmentator

    said = Said(
        name=name,
        into=into or load_settings().settings.catalogue_dir,
        codes=codes,
        modality=modality,
        case=case,
        licence=licence,
        manufacturer=manufacturer,
        trainer_like=trainer_like,
        step=step,
    )
    _tell(import_totalsegmentator(parts, said, _silent if as_json else _progress), as_json)


@app.command(
    "monai-bundle",
    epilog="Examples: `axial models import monai-bundle spleen_ct_segmentation --name spleen-ct`; "
    "`axial models import monai-bundle spleen_ct_segmentation_v0.5.9.zip --name spleen-ct "
    "--codes spleen.yaml --case spleen_10.nii.gz`",
)
@reports_errors
def monai_bundle(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle: configs/ and models/; or its zip file.")
    ],
    name: Name,
    into: Into = None,
    checkpoint: Annotated[
        str, typer.Option(help="The file of weights in it (default: models/model.pt).")
    ] = "",
    codes: Codes = None,
    modality: Modality = "",
    case: Case = None,
    licence: Licence = "",
    manufacturer: Manufacturer = "",
    as_json: Json = False,
) -> None:
    """Import a bundle of MONAI; its configuration is read, and none of its code is run."""
    from models.importing import Said, import_monai_bundle

    said = Said(
        name=name,
        into=into or load_settings().settings.catalogue_dir,
        checkpoint=checkpoint,
        codes=codes,
        modality=modality,
        case=case,
        licence=licence,
        manufacturer=manufacturer,
    )
    _tell(import_monai_bundle(bundle, said, _silent if as_json else _progress), as_json)


@app.command(
    "tfjs",
    help="Import TensorFlow.js layers that make a MeshNet; what it is shown, you say.",
    epilog="Examples: `axial models import tfjs model21_104class/model.json --name brain-regions "
    "--patch 160,176,208 --axes LIA --spacing 1,1,1 --intensity quantiles:0,0.999 --modality MR`",
)
@app.command(
    "torchscript",
    help="Import a network that holds its own graph; what it is shown, you say.",
    epilog="Examples: `axial models import torchscript model.ts --name spleen-ct --class spleen "
    "--patch 96,96,96 --axes RAS --spacing 1.5,1.5,2 --intensity window:-57,164 --modality CT`",
)
@reports_errors
def network(
    file: Annotated[
        Path, typer.Argument(help="What torch.jit.save wrote, or TensorFlow.js' model.json.")
    ],
    name: Name,
    patch: Annotated[str, typer.Option(help="Voxels of a patch, first array axis first.")],
    intensity: Annotated[
        str,
        typer.Option(
            help="window:LOW,HIGH, zscore:all, zscore:nonzero, zscore:positive, minmax, "
            "quantiles:LOW,HIGH or none."
        ),
    ],
    axes: Annotated[str, typer.Option(help="Where the array's axes lead: RAS, SAR.")],
    modality: Annotated[str, typer.Option(help="Of the series: CT, MR.")],
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="A label's name; repeated, in their order (default: those of colormap.json).",
        ),
    ] = None,
    spacing: Annotated[
        str, typer.Option(help="Millimetres along those axes (default: the scan's own).")
    ] = "",
    overlap: Annotated[
        float, typer.Option(min=0.0, max=0.95, help="Of neighbouring tiles, as a share.")
    ] = 0.5,
    into: Into = None,
    codes: Codes = None,
    case: Case = None,
    licence: Licence = "",
    manufacturer: Manufacturer = "",
    as_json: Json = False,
) -> None:
    """Import one network of a file."""
    from models.importing import Said, Shown, import_network, intensity_of

    said = Said(
        name=name,
        into=into or load_settings().settings.catalogue_dir,
        codes=codes,
        modality=modality,
        case=case,
        licence=licence,
        manufacturer=manufacturer,
    )
    first, second, third = three_numbers(patch, "--patch")
    if not all(side.is_integer() for side in (first, second, third)):
        raise CommandError(f"--patch {patch}: voxels are whole numbers, as in 96,96,96.")
    shown = Shown(
        classes=tuple(class_ or ()),
        patch=(int(first), int(second), int(third)),
        axes=axes.upper(),
        spacing_mm=three_numbers(spacing, "--spacing") if spacing else None,
        intensity=intensity_of(intensity),
        overlap=overlap,
    )
    _tell(import_network(file, said, shown, _silent if as_json else _progress), as_json)


@reports_errors
def new(
    name: Annotated[str, typer.Argument(help="The new model's name.")],
    recipe: Annotated[
        str, typer.Option("--from", help="A recipe's name, or a model's folder.", metavar="RECIPE")
    ],
    into: Into = None,
    as_json: Json = False,
) -> None:
    """Copy a recipe into the catalogue under a name; what is there is never written over."""
    from models.importing import new_from_recipe

    folder = new_from_recipe(recipe, name, into or load_settings().settings.catalogue_dir)
    if as_json:
        print_json({"name": name, "folder": str(folder)})
        return
    console.print(f"{name}: written to {folder}", highlight=False, soft_wrap=True)
    console.print(f"Look it over, then: axial models build {name}", highlight=False)


def _progress(step: str) -> None:
    errors.print(f"  [dim]{step} ...[/dim]", highlight=False, soft_wrap=True)


def _silent(step: str) -> None:
    """Report to nobody."""


def _tell(imported: Imported, as_json: bool) -> None:
    name = imported.folder.name
    if as_json:
        print_json(
            {
                "name": name,
                "folder": str(imported.folder),
                "to_review": [{"field": one.field, "why": one.why} for one in imported.to_review],
            }
        )
        return
    console.print(f"{name}: written to {imported.folder}", highlight=False, soft_wrap=True)
    console.print("To be looked at before it is served:")
    for one in imported.to_review:
        console.print(f"  [yellow]{one.field}[/yellow]: {one.why}", highlight=False, soft_wrap=True)
    console.print(f"Then: axial models build {name}", highlight=False)
