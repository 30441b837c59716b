"""``axial models bench``: how long builds take on this machine."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from models.building import (
    BuildTimes,
    ReferenceVolume,
    measure_build,
    parity_case,
    read_nifti,
)
from models.manifest import BuildRecord, lint_manifest, triton_model_name
from services.cli.commands.model_builds import Builds, Json, Target, records_of
from services.cli.output import console, errors, print_json, reports_errors
from services.common.settings import Settings, load_settings

_MIB = 1024 * 1024


@reports_errors
def bench(
    builds: Builds = None,
    image: Annotated[
        Path | None,
        typer.Option(help="A NIfTI volume, given to each role (default: the model's own case)."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs that are counted, after one more.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="0: as many as there are cores.")] = 0,
    target: Target = "",
    as_json: Json = False,
) -> None:
    """Measure builds on this machine: passes of the networks, the work around them, memory."""
    settings = load_settings().settings
    measured = [
        _measured(settings, record, image, runs, threads or len(os.sched_getaffinity(0)))
        for record in records_of(settings, builds, target)
    ]
    if as_json:
        print_json([_as_json(each) for each in measured])
        return
    for each in measured:
        _print(each)


def _measured(
    settings: Settings, record: BuildRecord, image: Path | None, runs: int, threads: int
) -> BuildTimes:
    with Progress(console=errors, transient=True) as progress:
        bar = progress.add_task(record.model, total=runs)
        return measure_build(
            record,
            read_nifti(image) if image is not None else _own_case(settings, record.model),
            settings.triton.repository,
            runs=runs,
            threads=threads,
            report=lambda done: progress.update(bar, completed=done),
        )


def _own_case(settings: Settings, model: str) -> ReferenceVolume:
    """The volume on which a model's builds are compared."""
    folder = settings.catalogue_dir / model
    return parity_case(folder, lint_manifest(folder), Path("build/cache"))


def _print(measured: BuildTimes) -> None:
    record = measured.record
    sides = " x ".join(map(str, measured.shape))
    console.print(
        f"[bold]{triton_model_name(record.model, record.digest)}[/bold] ({record.target}, "
        f"{record.precision}) on {sides} voxels: {measured.median_s:.2f} s in the middle of "
        f"{len(measured.runs)} runs",
        highlight=False,
        soft_wrap=True,
    )
    run = sorted(measured.runs, key=lambda each: each.whole)[len(measured.runs) // 2]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, seconds in run.networks.items():
        table.add_row(f"  network {name}", f"{seconds:.3f} s", _passes(run.passes[name]))
    for name, seconds in sorted(run.stages.items(), key=lambda item: -item[1]):
        table.add_row(f"  {name}", f"{seconds:.3f} s", "")
    console.print(table, highlight=False)
    console.print(
        f"  work around the networks {measured.around_share:.0%} of their passes; ready after "
        f"{measured.load_s:.1f} s; at most {measured.peak_bytes / _MIB:.0f} MiB in this process",
        highlight=False,
        soft_wrap=True,
    )


def _passes(number: int) -> str:
    return "1 pass" if number == 1 else f"{number} passes"


def _as_json(measured: BuildTimes) -> dict[str, object]:
    record = measured.record
    return {
        "model": record.model,
        "digest": record.digest,
        "target": record.target.value,
        "precision": record.precision.value,
        "shape": measured.shape,
        "load_s": measured.load_s,
        "median_s": measured.median_s,
        "around_share": measured.around_share,
        "peak_bytes": measured.peak_bytes,
        "runs": [dataclasses.asdict(run) | {"around": run.around} for run in measured.runs],
    }
