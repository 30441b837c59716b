"""``axial send``: send a folder of DICOM files to the listener (or anywhere)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.output import CommandError, console, errors, print_json, reports_errors
from services.common.settings import load_settings
from services.listener.sender import SendReport, find_instances, send_instances


@reports_errors
def send(
    folder: Annotated[Path, typer.Argument(help="Folder (or file) with DICOM files.")],
    host: Annotated[str, typer.Option(help="Where to (default: our own listener).")] = "",
    port: Annotated[int, typer.Option(help="DICOM port there.")] = 0,
    called: Annotated[str, typer.Option(help="AE title there.")] = "",
    calling: Annotated[str, typer.Option(help="AE title to send as.")] = "AXIAL-SEND",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Send every DICOM file of a folder by C-STORE.

    Examples: `axial send ~/study`; `axial send ~/study --host pacs --port 104 --called PACS`
    """
    listener = load_settings().settings.listener
    if not folder.exists():
        raise CommandError(f"{folder} does not exist.")
    instances = find_instances(folder)
    if not instances:
        raise CommandError(f"{folder} holds no DICOM file.")
    with Progress(
        TextColumn("sending"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        disable=as_json,
        transient=True,
    ) as progress:
        task = progress.add_task("sending", total=len(instances))
        report = send_instances(
            instances,
            host=host or listener.host,
            port=port or listener.port,
            called=called or listener.ae_title,
            calling=calling,
            on_sent=lambda: progress.advance(task),
        )
    _tell(report, as_json=as_json)
    if report.failed:
        raise typer.Exit(1)


def _tell(report: SendReport, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "sent": report.sent,
                "failed": [{"file": str(f), "problem": p} for f, p in report.failed],
                "seconds": report.seconds,
                "studies": list(report.study_uids),
            }
        )
        return
    console.print(f"{report.sent} instance(s) sent in {report.seconds:.1f} s.", highlight=False)
    for file, problem in report.failed[:10]:
        errors.print(f"[red]not sent:[/red] {file}: {problem}", highlight=False)
    for uid in report.study_uids:
        console.print(f"Study {uid}\n  axial status {uid}\n  axial why {uid}", highlight=False)
