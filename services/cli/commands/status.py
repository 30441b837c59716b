"""``axial status``: studies, jobs, their stages and deliveries."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.progress_bar import ProgressBar
from rich.table import Table

from services.cli.gateway_client import GatewayClient
from services.cli.output import CommandError, coloured, console, print_json, reports_errors
from services.common.settings import load_settings


@reports_errors
def status(
    study_uid: Annotated[str, typer.Argument(help="Only this study, in detail.")] = "",
    limit: Annotated[int, typer.Option(help="Studies to list.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show studies and what became of them; with a UID, one study's jobs and stages.

    Examples: `axial status`; `axial status 1.2.840.1`; `axial status --json`
    """
    client = GatewayClient(load_settings().settings)
    if study_uid:
        study = client.get(f"/api/v1/studies/{study_uid}")
        if study is None:
            raise CommandError(f"No study {study_uid} was received.")
        print_json(study) if as_json else show_study(study)
        return
    page = client.get("/api/v1/studies", limit=limit)
    if as_json:
        print_json(page)
    elif not page["studies"]:
        console.print("No study was received yet. Send one: axial send DIR")
    else:
        _show_studies(page["studies"])


def show_study(study: dict[str, Any]) -> None:
    """Prints a study as the gateway describes the study."""
    console.print(
        f"Study {study['study_uid']}: {coloured(study['state'])}, revision {study['revision']}, "
        f"{study['series']} series, {study['instances']} instances",
        highlight=False,
    )
    for revision in study["revisions"]:
        console.print(
            f"  revision {revision['number']}: {revision['trigger']}, "
            f"{revision['instances']} instances",
            highlight=False,
        )
        if revision.get("incomplete"):
            console.print(f"    {revision['incomplete']}", highlight=False)
    for conflict in study.get("conflict_events", ()):
        console.print(f"  conflict: {conflict['sentence']}", highlight=False)
    show_fates(study["fate"])
    for job in study["jobs"]:
        _show_job(job)


def show_fates(fates: list[dict[str, Any]]) -> None:
    """Prints what became of every series."""
    table = Table("series", "kind", "images", "model", "fate", "reason", box=None, pad_edge=False)
    for fate in fates:
        table.add_row(
            fate["series_number"] or "-",
            fate["modality"] or "-",
            str(fate["images"]),
            fate["model"],
            coloured(fate["fate"] or "under way"),
            fate["reason"] or "",
        )
    console.print(table)


def _show_studies(studies: list[dict[str, Any]]) -> None:
    table = Table("study", "state", "rev", "series", "instances", "fates", box=None, pad_edge=False)
    for study in studies:
        words = [f"{count} {coloured(name)}" for name, count in study["fates"].items()]
        if conflicts := study.get("conflicts"):
            words.append(f"{conflicts} {coloured('conflicts')}")
        fates = ", ".join(words)
        table.add_row(
            study["study_uid"],
            study["state"],
            str(study["revision"]),
            str(study["series"]),
            str(study["instances"]),
            fates,
        )
    console.print(table)


def _show_job(job: dict[str, Any]) -> None:
    console.print(
        f"\nJob of {job['model']} {job['model_version']} "
        f"(revision {job['revision']}): {coloured(job['state'])}",
        highlight=False,
    )
    if job["sentence"]:
        console.print(f"  {job['sentence']}", highlight=False)
    if (share := job.get("progress")) is not None:
        _show_share(share)
    stages = Table("stage", "seconds", box=None, pad_edge=False)
    for stage in job["stages"]:
        stages.add_row(f"  {stage['stage']}", f"{stage['seconds']:.3f}")
    console.print(stages)
    deliveries = Table("to", "what", "state", "attempts", "problem", box=None, pad_edge=False)
    for item in job["deliveries"]:
        deliveries.add_row(
            f"  {item['destination']}",
            item["kind"],
            coloured(item["state"]),
            str(item["attempts"]),
            item["last_error"] or "",
        )
    if job["deliveries"]:
        console.print(deliveries)


def _show_share(share: float) -> None:
    row = Table.grid(padding=(0, 1))
    row.add_row("  segmenting", ProgressBar(total=1.0, completed=share, width=40), f"{share:.0%}")
    console.print(row)
