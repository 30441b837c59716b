"""How the command speaks: tables for people, JSON for machines, errors in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from services.common.errors import AxialError

if TYPE_CHECKING:
    from rich.console import Console

    console: Console
    errors: Console

_P = ParamSpec("_P")
_R = TypeVar("_R")

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
    "held": "yellow",
    "committed": "green",
    "conflicts": "red",
    "open": "yellow",
}


def __getattr__(name: str) -> Console:
    """`console` and `errors`, made when they are first asked for: rich takes longer to import than
    some commands take."""
    if name not in ("console", "errors"):
        raise AttributeError(name)
    from rich.console import Console

    globals()[name] = made = Console(stderr=name == "errors")
    return made


class CommandError(AxialError):
    """Root of the command line's exceptions: a line that says what to do next."""


def print_json(value: Any) -> None:
    """Prints a value for machines."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def say(line: str) -> None:
    """Prints a line for people that has no colours."""
    sys.stdout.write(line + "\n")


def coloured(word: str) -> str:
    """A fate or state in its colour."""
    colour = FATE_COLOURS.get(word)
    return f"[{colour}]{word}[/{colour}]" if colour else word


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints an error and ends the command."""
    from services.cli.output import errors  # as whoever replaces it for a test has it

    errors.print(f"[red]error:[/red] {message}", highlight=False, soft_wrap=True)
    raise SystemExit(code)


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
