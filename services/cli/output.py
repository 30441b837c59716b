"""How the command speaks: tables for people, JSON for machines, errors in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console

from services.common.errors import AxialError

_P = ParamSpec("_P")
_R = TypeVar("_R")

console = Console()
errors = Console(stderr=True)

FATE_COLOURS = {
    "processed": "green",
    "not_wanted": "dim",
    "refused": "yellow",
    "withheld": "magenta",
    "failed": "red",
    "superseded": "dim",
    "delivered": "green",
    "waiting": "yellow",
    "dead": "red",
    "conflicts": "red",
    "open": "yellow",
}


class CommandError(AxialError):
    """Root of the command line's exceptions: one line that says what to do next."""


def print_json(value: Any) -> None:
    """Prints a value for machines."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def coloured(word: str) -> str:
    """A fate or state in its colour."""
    colour = FATE_COLOURS.get(word)
    return f"[{colour}]{word}[/{colour}]" if colour else word


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints an error and ends the command."""
    errors.print(f"[red]error:[/red] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def reports_errors(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Has an expected error printed in one line instead of a traceback."""

    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except AxialError as error:
            fail(str(error))
        except Exception as error:
            # Loaded only now: the manifests' room takes longer than many a command.
            from models.manifest import ModelError

            if isinstance(error, ModelError):
                fail(str(error))
            raise

    return wrapped
