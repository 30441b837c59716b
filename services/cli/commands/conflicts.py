"""``axial conflicts``: other bytes under known SOP Instance UIDs, listed and decided."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from services.cli.gateway_client import GatewayClient
from services.cli.output import CommandError, coloured, console, print_json, reports_errors
from services.common.settings import load_settings

app = typer.Typer(
    invoke_without_command=True,
    help="Other images that came under SOP Instance UIDs that were known: what differs, and which "
    "of them count. Without a command those that nobody has decided yet are listed.",
    epilog="Examples: `axial conflicts`; `axial conflicts list 1.2.840.1 --json`; "
    "`axial conflicts resolve 1.2.840.1 --keep latest`",
)


class Keep(StrEnum):
    """Which images count."""

    FIRST = "first"
    LATEST = "latest"


@app.callback()
def conflicts(context: typer.Context) -> None:
    """Lists them, where no command is given."""
    if context.invoked_subcommand is None:
        list_conflicts()


@app.command("list")
@reports_errors
def list_conflicts(
    uid: Annotated[str, typer.Argument(help="Only of this study, series or instance.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Also those that were decided.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List conflicts that nobody has decided yet.

    Examples: `axial conflicts list`; `axial conflicts list 1.2.840.1 --all`
    """
    client = GatewayClient(load_settings().settings)
    found = client.get("/api/v1/conflicts", uid=uid)
    wanted = [conflict for conflict in found if every or conflict["waits"]]
    if as_json:
        print_json(wanted)
    elif not wanted:
        console.print("No conflict waits for a decision.")
    else:
        _show(wanted)


@app.command()
@reports_errors
def resolve(
    uid: Annotated[str, typer.Argument(help="UID of a study, a series or an instance.")],
    keep: Annotated[
        Keep, typer.Option(help="first: what came first stays; latest: what came last counts.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Decide which images count. With latest a new revision supersedes the earlier results.

    Nothing is thrown away: what does not count is kept beside what does.

    Examples: `axial conflicts resolve 1.2.840.1 --keep latest`; `axial conflicts resolve
    1.2.840.1.5 --keep first`
    """
    client = GatewayClient(load_settings().settings)
    answer = client.post("/api/v1/conflicts/resolve", uid=uid, keep=keep.value)
    if as_json:
        print_json(answer)
    elif not answer["count"]:
        raise CommandError(
            f"No conflict of {uid} waits for a decision. `axial conflicts list` shows which do."
        )
    elif keep is Keep.LATEST:
        console.print(
            f"{answer['count']} conflict(s) decided: the latest images take their places, and a "
            "new revision follows by itself."
        )
    else:
        console.print(f"{answer['count']} conflict(s) decided: the first images stay.")


def _show(conflicts: list[dict[str, Any]]) -> None:
    table = Table("study", "series", "images", "what differs", "state", box=None, pad_edge=False)
    for conflict in conflicts:
        table.add_row(
            conflict["study_uid"],
            conflict["series_uid"],
            str(conflict["count"]),
            ", ".join(conflict["differs"]),
            coloured(conflict["state"]),
        )
    console.print(table)
    for conflict in conflicts:
        console.print(f"  {conflict['sentence']}", highlight=False)
