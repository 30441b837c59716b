"""``axial models``: build, list and verify what is served."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.building import ListedModel, build_model, list_models, verify_model
from models.manifest import BuildRecord
from services.cli.output import CommandError, console, errors, print_json, reports_errors
from services.common.settings import Settings, load_settings

app = typer.Typer(
    no_args_is_help=True,
    help="Models: build, list, verify.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Names = Annotated[list[str] | None, typer.Argument(help="Models (default: all).")]
Target = Annotated[str, typer.Option(help="cpu, torch or tensorrt (default: the served target).")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


@app.command(epilog="Examples: `axial models build`; `axial models build brain-extraction`")
@reports_errors
def build(
    names: Names = None,
    target: Target = "",
    precision: Annotated[str, typer.Option(help="f32, bf16, f16 (default: the manifest's).")] = "",
    as_json: Json = False,
) -> None:
    """Build models from their weights into Triton's repository; what is built is left alone."""
    settings = load_settings().settings
    records: list[BuildRecord] = []
    for listed in _chosen(settings, names, target):
        records.append(build_one(settings, listed.name, target, precision or None, quiet=as_json))
    if as_json:
        print_json([record.model_dump(mode="json", by_alias=True) for record in records])


@app.command("list", epilog="Example: `axial models list --json`")
@reports_errors
def list_(target: Target = "", as_json: Json = False) -> None:
    """List the catalogue's models and what is built of them."""
    settings = load_settings().settings
    listed = _listed(settings, target)
    if as_json:
        print_json(
            [
                {
                    "name": item.name,
                    "version": item.version,
                    "title": item.title,
                    "stale": item.stale,
                    "build": item.record.model_dump(mode="json", by_alias=True)
                    if item.record
                    else None,
                }
                for item in listed
            ]
        )
        return
    table = Table(
        "model", "version", "title", "target", "precision", "digest", box=None, pad_edge=False
    )
    for item in listed:
        record = item.record
        built = (
            (record.target, record.precision, record.digest[:12])
            if record
            else ("[yellow]not built[/yellow]", "", "")
        )
        stale = " [yellow](stale)[/yellow]" if record and item.stale else ""
        table.add_row(item.name, item.version, item.title, built[0] + stale, *built[1:])
    console.print(table)


@app.command(epilog="Example: `axial models verify brain-extraction`")
@reports_errors
def verify(names: Names = None, target: Target = "", as_json: Json = False) -> None:
    """Hash every built file again and run the networks on their known answer."""
    settings = load_settings().settings
    rows: list[dict[str, object]] = []
    for listed in _chosen(settings, names, target):
        found = verify_model(
            listed.name, target or settings.triton.target, settings.triton.repository
        )
        rows.append(
            {
                "model": listed.name,
                "files": found.files,
                "known_answer_dice": found.known_answer_dice,
                "digest": found.record.digest,
            }
        )
        if not as_json:
            console.print(
                f"{listed.name}: {found.files} files as built, "
                f"known answer Dice {found.known_answer_dice}, digest {found.record.digest[:12]}",
                highlight=False,
            )
    if as_json:
        print_json(rows)


def build_one(
    settings: Settings, name: str, target: str, precision: str | None, *, quiet: bool
) -> BuildRecord:
    """Builds one model and says what is done while it is done."""
    begun = time.monotonic()

    def report(step: str, detail: str) -> None:
        if not quiet:
            errors.print(
                f"  [dim]{time.monotonic() - begun:6.1f} s[/dim]  {step}: {detail}",
                highlight=False,
                soft_wrap=True,
            )

    record = build_model(
        settings.catalogue_dir / name,
        target or settings.triton.target,
        settings.triton.repository,
        precision=precision,
        cache=Path("build/cache"),
        report=report,
    )
    if not quiet:
        for parity in record.parity:
            console.print(
                f"{name} {record.version} ({record.target}, {record.precision}): parity with the "
                f"trained networks in {parity.precision}: Dice {parity.dice:.5f}, "
                f"{parity.differing_voxels} of {parity.reference_voxels} voxels differ",
                highlight=False,
                soft_wrap=True,
            )
    return record


def _listed(settings: Settings, target: str) -> list[ListedModel]:
    return list_models(
        settings.catalogue_dir, target or settings.triton.target, settings.triton.repository
    )


def _chosen(settings: Settings, names: list[str] | None, target: str) -> list[ListedModel]:
    listed = _listed(settings, target)
    known = {item.name for item in listed}
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise CommandError(f"Not in the catalogue: {', '.join(unknown)}. See axial models list.")
    return [item for item in listed if not names or item.name in names]
