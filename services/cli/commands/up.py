"""``axial up`` and ``axial down``: the stack on one machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.table import Table

from services.cli.output import CommandError, console, print_json, reports_errors
from services.cli.stack import ManagedProcess, Supervisor, running_state, stack_processes
from services.common.database import migrate, open_database
from services.common.settings import Settings, load_settings
from services.common.trust import renew_certificates


@reports_errors
def up(
    stand_in_pacs: Annotated[
        Path | None,
        typer.Option(
            help="Also run a stand-in PACS (pynetdicom's qrscp) that keeps its objects in this "
            "folder, at the place of the first destination."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON when all are ready.")
    ] = False,
) -> None:
    """Run the stack on this machine until Ctrl-C or `axial down`.

    Starts Triton, listener, orchestrator, reporting and gateway as processes, restarts what
    dies, and writes their logs below the data directory.

    Examples: `axial up`; `axial --config site.yaml up`; `axial up --stand-in-pacs /tmp/pacs`
    """
    settings = load_settings().settings
    running = running_state(settings)
    if running is not None:
        raise CommandError(
            f"A stack with this data directory runs already (process {running.supervisor_pid}). "
            "Stop it: axial down"
        )
    # What is written from here on, memory shared with Triton included, holds patient data: nobody
    # else's business on this machine.
    os.umask(0o077)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    settings.data_dir.chmod(0o700)
    renew_certificates(settings)
    # Once for all, so that the services find the tables as they start.
    engine = open_database(settings.resolved_database_url)
    migrate(engine)
    engine.dispose()
    processes = stack_processes(settings, stand_in_pacs)
    supervisor = Supervisor(settings, processes)
    if as_json:
        seconds = supervisor.start(lambda _name, _after: None)
        print_json({"ready_after_s": round(seconds, 3), **_addresses(settings, processes)})
        sys.stdout.flush()
        supervisor.run()
        return
    with console.status("starting ..."):
        seconds = supervisor.start(
            lambda name, after: console.print(f"  {name} ready after {after:.1f} s")
        )
    console.print(f"The stack is ready after {seconds:.1f} s. Ctrl-C stops it.", highlight=False)
    console.print(_places(settings, processes))
    supervisor.run()
    console.print("Stopped.")


@reports_errors
def down(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Stop the stack that `axial up` runs on this machine.

    Example: `axial --config build/demo/axial.yaml down`
    """
    settings = load_settings().settings
    state = running_state(settings)
    if state is None:
        raise CommandError(f"No stack runs with data directory {settings.data_dir}.")
    process = psutil.Process(state.supervisor_pid)
    os.kill(state.supervisor_pid, signal.SIGTERM)
    try:
        process.wait(settings.grace_period_s + 15.0)
    except psutil.TimeoutExpired:
        raise CommandError(f"Process {state.supervisor_pid} does not stop.") from None
    if as_json:
        print_json({"stopped": state.supervisor_pid})
    else:
        console.print("Stopped.")


def _addresses(settings: Settings, processes: list[ManagedProcess]) -> dict[str, Any]:
    listener, gateway = settings.listener, settings.gateway
    return {
        "dicom": {"ae_title": listener.ae_title, "host": listener.host, "port": listener.port},
        "rest": f"http://{gateway.host}:{gateway.port}",
        "logs": str(settings.data_dir / "logs"),
        "processes": [process.name for process in processes],
    }


def _places(settings: Settings, processes: list[ManagedProcess]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    listener, gateway = settings.listener, settings.gateway
    table.add_row("DICOM", f"{listener.ae_title} at {listener.host}:{listener.port}")
    table.add_row("REST", f"http://{gateway.host}:{gateway.port}/docs")
    table.add_row("logs", str(settings.data_dir / "logs"))
    for destination in settings.reporting.destinations:
        table.add_row(
            "results go to",
            f"{destination.name}: {destination.ae_title} at {destination.host}:{destination.port}",
        )
    table.add_row("processes", ", ".join(process.name for process in processes))
    return table
