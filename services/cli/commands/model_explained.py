"""``axial models explain`` and ``axial models schema``: what a manifest says, and may say."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from models.building import explain as explain_plan
from models.manifest import manifest_schema
from services.cli.commands.model_builds import Json, manifest_of
from services.cli.output import CommandError, console, print_json, reports_errors
from services.common.settings import load_settings

# A 1 mm head.
_SHAPE, _SPACING = "176,256,256", "1,1,1"


@reports_errors
def explain(
    name: Annotated[str, typer.Argument(help="A model of the catalogue, or its folder.")],
    shape: Annotated[
        str, typer.Option(help="The scan: slices, rows, columns.", metavar="K,J,I")
    ] = _SHAPE,
    spacing: Annotated[
        str, typer.Option(help="Millimetres between them.", metavar="K,J,I")
    ] = _SPACING,
    as_json: Json = False,
) -> None:
    """Show a model's plan, step by step, with the grids and the memory it has on a scan."""
    settings = load_settings().settings
    manifest = manifest_of(settings, name)
    sides = three_numbers(shape, "--shape")
    steps = explain_plan(
        manifest, (int(sides[0]), int(sides[1]), int(sides[2])), three_numbers(spacing, "--spacing")
    )
    if as_json:
        print_json([dataclasses.asdict(step) for step in steps])
        return
    console.print(
        f"{manifest.name} {manifest.version} on a scan of {shape} voxels, {spacing} mm apart",
        highlight=False,
    )
    for place, step in enumerate(steps, 1):
        voxels = ("≤ " if step.at_most else "") + " x ".join(map(str, step.shape))
        apart = " x ".join(f"{one:.3g}" for one in step.spacing_mm)
        size = f", {step.mib:.0f} MiB" if step.mib else ""
        reads = ", ".join(dict.fromkeys(step.reads))
        console.print(
            f"{place:3} [bold]{step.do}[/bold] {reads} → [bold]{step.makes}[/bold] ({step.kind})",
            highlight=False,
            soft_wrap=True,
        )
        console.print(f"      {voxels} voxels of {apart} mm{size}", highlight=False)
        console.print(f"      [dim]{step.what}[/dim]", highlight=False, soft_wrap=True)
    console.print("An image without MiB only says which voxels are meant; none is moved for it.")


@reports_errors
def schema() -> None:
    """Print the JSON Schema of a manifest, for editors that check while one types."""
    print_json(manifest_schema())


def three_numbers(text: str, option: str) -> tuple[float, float, float]:
    """Reads three numbers that a person wrote for an option.

    Raises:
        CommandError: they are not, or one is not above zero.
    """
    parts = text.split(",")
    try:
        first, second, third = (float(part) for part in parts)
    except ValueError as error:
        raise CommandError(f"{option} {text} is not three numbers, as in {_SHAPE}.") from error
    if min(first, second, third) <= 0:
        raise CommandError(f"{option} {text}: all three must be above zero.")
    return first, second, third
