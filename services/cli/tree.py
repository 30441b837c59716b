"""The tree of commands: ``axial`` and its subcommands, as Typer has them.

A subcommand's module is imported when it is called: sending a study needs no database library.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from services.cli.plain import for_typer

# Name -> module below `services.cli.commands`, and what of it: a function, or a group of commands.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "up": ("up", "up"),
        "down": ("up", "down"),
        "demo": ("demo", "demo"),
        "send": ("send", "send"),
        "echo": ("echo", "echo"),
        "status": ("status", "status"),
        "why": ("why", "why"),
        "complete": ("actions", "complete"),
        "expect": ("actions", "expect"),
        "retry": ("actions", "retry"),
        "resend": ("actions", "resend"),
        "conflicts": ("conflicts", "app"),
        "certificates": ("certificates", "certificates"),
        "token": ("token", "token"),
        "models": ("models", "app"),
        "config": ("config", "app"),
    }
)
# Those that are declared for `plain`.
PLAIN = frozenset(("send", "echo"))
_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "rich_markup_mode": "markdown",
        "pretty_exceptions_enable": False,
        "context_settings": {"help_option_names": ["-h", "--help"]},
    }
)


class _Subcommands(TyperGroup):
    """Finds subcommands in `COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the library's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        found = getattr(import_module(f"services.cli.commands.{module}"), name)
        if isinstance(found, typer.Typer):
            command = get_group(found)
        else:
            alone = typer.Typer(add_completion=False, **_SETTINGS)
            alone.command(cmd_name)(for_typer(found) if cmd_name in PLAIN else found)
            command = get_command(alone)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="axial",
    cls=_Subcommands,
    no_args_is_help=True,
    help="Receives studies from a PACS, runs models on them, sends results back.",
    epilog="Examples: `axial up` runs the stack; `axial send DIR` sends it a study; "
    "`axial status` shows what became of it; `axial why UID` says why.",
    **_SETTINGS,
)


@app.callback()
def root(
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Settings file (default: $AXIAL_CONFIG, else axial.yaml)."
        ),
    ] = None,
) -> None:
    """Receives studies from a PACS, runs models on them, sends results back."""
    if settings_file is not None:
        # Child processes read the same file.
        os.environ["AXIAL_CONFIG"] = str(settings_file.absolute())
