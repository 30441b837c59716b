"""``axial config``: the settings in force."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from services.cli.output import console, print_json, reports_errors
from services.common.settings import load_settings
from services.common.settings.group import without_password

app = typer.Typer(
    no_args_is_help=True,
    help="Settings.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root() -> None:
    """Settings."""


@app.command(epilog="Examples: `axial config show`; `axial config show listener --json`")
@reports_errors
def show(
    section: Annotated[
        str, typer.Argument(help="Only this part, e.g. `listener` or `triton.target`.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print every setting with its value and where it came from."""
    loaded = load_settings()
    rows = [
        (path, value, loaded.origin(path))
        for path, value in _leaves(loaded.settings.model_dump(mode="json"), "")
        if path == section or path.startswith(f"{section}." if section else "")
    ]
    if as_json:
        print_json([{"setting": p, "value": v, "origin": o} for p, v, o in rows])
        return
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for path, value, origin in rows:
        style = "dim" if origin == "default" else ""
        table.add_row(path, str(value), origin, style=style)
    console.print(table)


def _leaves(tree: dict[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{at}.{key}" if at else key
        if isinstance(value, dict):
            yield from _leaves(cast(dict[str, Any], value), path)
        else:
            # Secrets are masked by their type; a password may stand in any URL as well.
            yield path, without_password(value) if isinstance(value, str) else value
