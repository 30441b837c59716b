"""The ``axial`` command and its subcommands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands import (
    actions,
    certificates,
    config,
    conflicts,
    demo,
    models,
    send,
    status,
    token,
    up,
    why,
)

app = typer.Typer(
    name="axial",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Receives studies from a PACS, runs models on them, sends results back.",
    epilog="Examples: `axial up` runs the stack; `axial send DIR` sends it a study; "
    "`axial status` shows what became of it; `axial why UID` says why.",
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


app.command("up")(up.up)
app.command("down")(up.down)
app.command("demo")(demo.demo)
app.command("send")(send.send)
app.command("status")(status.status)
app.command("why")(why.why)
app.command("complete")(actions.complete)
app.command("expect")(actions.expect)
app.command("retry")(actions.retry)
app.command("resend")(actions.resend)
app.command("certificates")(certificates.certificates)
app.command("token")(token.token)
app.add_typer(conflicts.app, name="conflicts")
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")


def main() -> None:
    """Entry point of the installed command."""
    app()
