"""The command finds its subcommands by name, and imports none that is not called."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from services.cli.tree import COMMANDS, app


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"axial {name}" in result.output


def test_all_commands_are_listed_and_others_are_refused() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    assert all(f" {name} " in listed for name in COMMANDS)
    assert CliRunner().invoke(app, ["frobnicate"]).exit_code == 2


def test_the_command_itself_imports_no_subcommand() -> None:
    code = "import services.cli.tree, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not [name for name in done.stdout.split() if name.startswith("services.cli.commands.")]
