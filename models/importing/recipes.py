"""A model of the catalogue from a recipe: its files under a name, to be corrected and built."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from models.importing.errors import NotImportableError
from models.importing.publishing import model_folder, write_manifest
from models.manifest.document import read_document
from models.manifest.loading import MANIFEST_FILE

__all__ = ["RECIPES", "new_from_recipe"]

RECIPES: Final = Path(__file__).parents[1] / "recipes"


def new_from_recipe(recipe: str, name: str, into: Path) -> Path:
    """Copy a recipe, whole, and give it a name; returns the folder.

    Args:
        recipe: one of `RECIPES` by its name, or a model's folder.
        name: of the new model.
        into: the folder of models that it comes into.

    Raises:
        NotImportableError: there is no such recipe, or the name is none or taken.
        ManifestError: the recipe cannot be read.
    """
    source = RECIPES / recipe if (RECIPES / recipe).is_dir() else Path(recipe)
    if not (source / MANIFEST_FILE).is_file():
        known = sorted(file.parent.name for file in RECIPES.glob(f"*/{MANIFEST_FILE}"))
        raise NotImportableError(
            f"There is no recipe {recipe}. There are {', '.join(known)}; a folder with a "
            f"{MANIFEST_FILE} will do too."
        )
    text = (source / MANIFEST_FILE).read_text(encoding="utf-8")
    line, _ = read_document(source / MANIFEST_FILE).line_of(("identity", "name"))
    lines = text.splitlines(keepends=True)
    key, _, _ = lines[line - 1].partition(":")
    lines[line - 1] = f"{key}: {name}\n"
    with model_folder(into, name) as made:
        shutil.copytree(source, made, dirs_exist_ok=True)
        write_manifest(made, "".join(lines))
    return into / name
