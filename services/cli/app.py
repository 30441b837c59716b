"""The installed ``axial`` command's entry.

What is read from a command line without Typer (`plain`) is run at once: Typer and what it reads
options with take longer to import than a small study takes to be sent. All else, help and every
mistake among it, goes to the tree of commands (`tree`).
"""

from __future__ import annotations

import sys
from importlib import import_module

# Commands whose start matters, and where they are; their options are declared for both ways.
_AT_ONCE = {
    "send": ("services.cli.commands.send", "send"),
    "echo": ("services.cli.commands.echo", "echo"),
}


def main() -> None:
    """Entry point of the installed command."""
    if len(sys.argv) > 1 and sys.argv[1] in _AT_ONCE:
        from services.cli.plain import run_plainly

        module, name = _AT_ONCE[sys.argv[1]]
        if run_plainly(getattr(import_module(module), name), sys.argv[2:]):
            return
    from services.cli.tree import app

    app()
