"""Recipes, altered so that a test has time for them, built as a person builds them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from services.cli.stack.local_settings import local_settings, write_settings
from tests.e2e.stack import CHECKOUT, StackUnderTest, running_stack

_RECIPES = CHECKOUT / "models" / "recipes"


def recipe(name: str) -> Any:
    """A recipe's manifest, to be altered; it takes parts of heads too."""
    manifest: Any = yaml.safe_load((_RECIPES / name / "model.yaml").read_text(encoding="utf-8"))
    for role in manifest["roles"].values():
        role["gate"]["min_extent_mm"] = 30
    return manifest


@contextmanager
def served(folder: Path, manifest: Any, mirror: Path, *beside: Path) -> Generator[StackUnderTest]:
    """A stack that serves the one model.

    Args:
        folder: for all that is made.
        manifest: of the model.
        mirror: a folder with a folder of files for each source.
        beside: files that lie beside the manifest.
    """
    name = manifest["identity"]["name"]
    catalogue, repository = folder / "catalogue", folder / "models"
    model = catalogue / name
    model.mkdir(parents=True)
    for file in beside:
        (model / file.name).write_bytes(file.read_bytes())
    (model / "model.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    tree = local_settings(
        folder / "build", catalogue=catalogue, repository=repository, any_ports=True
    )
    settings = write_settings(folder / "build.yaml", tree)
    command = [sys.executable, "-m", "services.cli", "--config", str(settings), "models", "build"]
    done = subprocess.run(
        [*command, "--mirror", str(mirror)], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with running_stack(folder / "stack", catalogue=catalogue, repository=repository) as running:
        yield running
