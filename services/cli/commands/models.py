"""``axial models``: build, list, lint, verify and prune; the other commands are beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.building import (
    ListedBuild,
    ListedModel,
    build_model,
    prune_builds,
    verify_build,
)
from models.manifest import (
    BuildRecord,
    ManifestError,
    UnreadableServed,
    lint_manifest,
    served_builds,
    triton_model_name,
)
from models.manifest.loading import MANIFEST_FILE
from services.cli.commands.model_builds import Builds, Json, Target, models_of, records_of
from services.cli.commands.model_explained import explain, schema
from services.cli.commands.model_import import app as import_app
from services.cli.commands.model_import import new
from services.cli.commands.model_measured import bench
from services.cli.commands.model_shown import show
from services.cli.output import CommandError, console, errors, print_json, reports_errors
from services.common.settings import Settings, load_settings

app = typer.Typer(
    no_args_is_help=True,
    help="Models: import, new, lint, explain, show, build, list, verify, bench, prune.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(
    epilog="Examples: `axial models explain brain-extraction`; "
    "`axial models explain ./my-model --shape 300,512,512 --spacing 1.5,0.8,0.8`"
)(explain)
app.command(epilog="Example: `axial models schema > model.schema.json`")(schema)
app.add_typer(import_app, name="import")
app.command(epilog="Example: `axial models new ich-ct --from ich-ct`")(new)

app.command(epilog="Examples: `axial models show brain-extraction`; `axial models show ./mine`")(
    show
)
app.command(epilog="Examples: `axial models bench`; `axial models bench d1b01a5b6aca --runs 10`")(
    bench
)

Names = Annotated[list[str] | None, typer.Argument(help="Models (default: all).")]


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """A build that is there; whether this run made the build, and has the build served."""

    record: BuildRecord
    made: bool
    newly_served: bool


@app.command(epilog="Examples: `axial models build`; `axial models build brain-extraction`")
@reports_errors
def build(
    names: Names = None,
    target: Target = "",
    precision: Annotated[str, typer.Option(help="f32, bf16, f16 (default: the manifest's).")] = "",
    mirror: Annotated[
        Path | None,
        typer.Option(help="A folder that has published weights already, by their sources' names."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build models beside their other builds, and have them served; what is built is left alone."""
    settings = load_settings().settings
    outcomes = [
        build_one(settings, listed.name, target, precision or None, quiet=as_json, mirror=mirror)
        for listed in _chosen(settings, names, target)
    ]
    if as_json:
        print_json(
            [
                _as_json(outcome.record)
                | {"made": outcome.made, "served": True, "newly_served": outcome.newly_served}
                for outcome in outcomes
            ]
        )
        return
    for outcome in outcomes:
        console.print(_told(outcome), highlight=False, soft_wrap=True)


@app.command("list", epilog="Example: `axial models list --json`")
@reports_errors
def list_(target: Target = "", as_json: Json = False) -> None:
    """List the catalogue's models, what is built of each, and what is to be served."""
    settings = load_settings().settings
    listed = models_of(settings, target)
    broken = [
        one
        for one in served_builds(settings.triton.repository, target or settings.triton.target)
        if isinstance(one, UnreadableServed)
    ]
    if as_json:
        print_json([_listed_as_json(item, broken) for item in listed])
        return
    table = Table("model", "version", "for", box=None, pad_edge=False)
    table.add_column("digest", no_wrap=True)
    table.add_column("built")
    table.add_column("")
    for item in listed:
        if not item.builds:
            table.add_row(item.name, item.manifest.version, "[yellow]not built[/yellow]")
        for build in item.builds:
            table.add_row(item.name, *_row(build))
    console.print(table)
    for one in broken:
        errors.print(f"[yellow]{one.file}[/yellow]: {one.problem}", highlight=False)


@app.command(epilog="Examples: `axial models lint`; `axial models lint my-models/liver`")
@reports_errors
def lint(
    manifests: Annotated[
        list[str] | None,
        typer.Argument(help="Models of the catalogue, or folders (default: the whole catalogue)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what keeps a manifest from being built: file, line, field and remedy."""
    settings = load_settings().settings
    problems: dict[str, str | None] = {}
    for folder in _folders(settings, manifests):
        try:
            lint_manifest(folder)
            problems[folder.name] = None
        except ManifestError as error:
            problems[folder.name] = str(error)
    if as_json:
        print_json([{"name": name, "problem": problem} for name, problem in problems.items()])
    for name, problem in problems.items():
        if not as_json:
            console.print(problem or f"{name}: ok", highlight=False, soft_wrap=True, markup=False)
    if any(problems.values()):
        raise typer.Exit(1)


@app.command(epilog="Examples: `axial models verify`; `axial models verify d1b01a5b6aca`")
@reports_errors
def verify(
    builds: Builds = None,
    target: Target = "",
    as_json: Json = False,
) -> None:
    """Hash every file of a build again and run the networks on their known answer."""
    settings = load_settings().settings
    rows: list[dict[str, object]] = []
    for record in records_of(settings, builds, target):
        found = verify_build(
            record.model,
            record.digest,
            target or settings.triton.target,
            settings.triton.repository,
        )
        rows.append(
            {
                "model": record.model,
                "digest": record.digest,
                "precision": record.precision.value,
                "files": found.files,
                "known_answer_dice": found.known_answer_dice,
            }
        )
        if not as_json:
            console.print(
                f"{triton_model_name(record.model, record.digest)} ({record.precision}): "
                f"{found.files} files as built, known answer Dice {found.known_answer_dice}",
                highlight=False,
                soft_wrap=True,
            )
    if as_json:
        print_json(rows)


@app.command(epilog="Examples: `axial models prune`; `axial models prune d1b01a5b6aca --all`")
@reports_errors
def prune(
    builds: Annotated[
        list[str] | None, typer.Argument(help="Digests (default: all but the newest 3 of a model).")
    ] = None,
    target: Target = "",
    younger_too: Annotated[
        bool, typer.Option("--all", help="Those of the last 7 days too, which a job may want.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove builds that are neither served nor new. What is served is never removed."""
    settings = load_settings().settings
    removed = prune_builds(
        target or settings.triton.target,
        settings.triton.repository,
        builds or (),
        younger_too=younger_too,
    )
    if as_json:
        print_json([_as_json(one.record) for one in removed])
        return
    for one in removed:
        console.print(f"{one.triton_name}: removed", highlight=False, soft_wrap=True)
    if not removed:
        console.print("Nothing to remove.")


def build_one(
    settings: Settings,
    name: str,
    target: str,
    precision: str | None,
    *,
    quiet: bool,
    mirror: Path | None = None,
) -> BuildOutcome:
    """Builds a model and prints each step as it begins."""
    begun = time.monotonic()
    steps: set[str] = set()

    def report(step: str, detail: str) -> None:
        steps.add(step)
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
        mirror=mirror,
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
    return BuildOutcome(record, "built" in steps, "serves" in steps)


def _told(outcome: BuildOutcome) -> str:
    record = outcome.record
    made = "made now" if outcome.made else f"built {record.built_at}"
    served = "served from now on" if outcome.newly_served else "served as before"
    return (
        f"{triton_model_name(record.model, record.digest)} ({record.precision}): {made}, {served}"
    )


def _row(build: ListedBuild) -> tuple[str, ...]:
    record = build.record
    states = [
        "[green]served[/green]" if build.served else "",
        "[yellow]stale[/yellow]" if build.stale else "",
    ]
    built = record.built_at.replace("T", " ")[: len("2026-01-31 15:04")]
    state = ", ".join(filter(None, states))
    return record.version, f"{record.target} {record.precision}", record.digest[:12], built, state


def _listed_as_json(item: ListedModel, broken: list[UnreadableServed]) -> dict[str, object]:
    return {
        "name": item.name,
        "version": item.manifest.version,
        "title": item.manifest.identity.title,
        "resources": item.manifest.resources.model_dump(mode="json"),
        "builds": [
            _as_json(build.record) | {"served": build.served, "stale": build.stale}
            for build in item.builds
        ],
        "problem": next((one.problem for one in broken if one.model == item.name), None),
    }


def _as_json(record: BuildRecord) -> dict[str, object]:
    return {
        **record.model_dump(mode="json", by_alias=True),
        "triton_name": triton_model_name(record.model, record.digest),
    }


def _folders(settings: Settings, wanted: list[str] | None) -> list[Path]:
    catalogue = settings.catalogue_dir
    if not wanted:
        return sorted(file.parent for file in catalogue.glob(f"*/{MANIFEST_FILE}"))
    return [catalogue / one if (catalogue / one).is_dir() else Path(one) for one in wanted]


def _chosen(settings: Settings, names: list[str] | None, target: str) -> list[ListedModel]:
    listed = models_of(settings, target)
    known = {item.name for item in listed}
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise CommandError(f"Not in the catalogue: {', '.join(unknown)}. See axial models list.")
    return [item for item in listed if not names or item.name in names]
