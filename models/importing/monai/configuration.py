"""The configuration of a MONAI bundle, read as data: references are followed, nothing is run.

In such a file `@name` stands for what is said elsewhere, `%` for a text of another file, and `$`
for Python, which MONAI runs. Here only literals behind a `$` are read; what else an importer would
have to run is refused by its place.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from models.importing.errors import NotImportableError

__all__ = ["Configuration", "Expression", "read_configuration"]

_SEPARATOR: Final = re.compile(r"::|#")
_REFERENCE: Final = re.compile(r"@([\w.]+(?:(?:::|#)[\w.]+)*)")
# No bundle refers through more names than this; a ring of references has no end.
_DEEPEST: Final = 50


@dataclass(frozen=True, slots=True)
class Expression:
    """Python that the file wants to be run, and is not."""

    text: str


class Configuration:
    """What a file says, by name.

    Args:
        file: where it is from, for errors.
        data: its content.
    """

    def __init__(self, file: Path, data: Mapping[str, Any]) -> None:
        self.file = file
        self._data = data

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def get(self, name: str) -> Any:
        """Return what is said under a name, its references followed; None: nothing is.

        Raises:
            NotImportableError: a reference leads nowhere, or in a ring.
        """
        return self._resolved(self._data.get(name), name, 0)

    def text(self, name: str) -> str:
        """Return a text under a name; empty where none is."""
        found = self._data.get(name, "")
        return found if isinstance(found, str) else ""

    def refused(self, place: str, problem: str) -> NotImportableError:
        """Return the error for something that cannot be imported, with its place."""
        return NotImportableError(f"{self.file}: {place}: {problem}")

    def _resolved(self, value: Any, place: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise self.refused(place, "its references lead in a ring.")
        if isinstance(value, dict):
            return {
                str(key): self._resolved(one, f"{place}.{key}", depth + 1)
                for key, one in value.items()  # pyright: ignore[reportUnknownVariableType]
            }
        if isinstance(value, list):
            return [
                self._resolved(one, f"{place}.{at}", depth + 1)
                for at, one in enumerate(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            ]
        if not isinstance(value, str):
            return value
        whole = _REFERENCE.fullmatch(value.removeprefix("$").strip())
        if whole is not None:
            return self._resolved(self._named(whole.group(1), place), place, depth + 1)
        if value.startswith("$"):
            return _literal(value[1:].strip())
        return Expression(value) if value.startswith("%") else value

    def _named(self, path: str, place: str) -> Any:
        found: Any = self._data
        for key in _SEPARATOR.split(path):
            if isinstance(found, dict) and key in found:
                found = found[key]  # pyright: ignore[reportUnknownVariableType]
            elif isinstance(found, list) and key.isdigit() and int(key) < len(found):  # pyright: ignore[reportUnknownArgumentType]
                found = found[int(key)]  # pyright: ignore[reportUnknownVariableType]
            else:
                raise self.refused(place, f"there is nothing called {path}.")
        return found  # pyright: ignore[reportUnknownVariableType]


def read_configuration(file: Path) -> Configuration:
    """Read a JSON or YAML file of a bundle.

    Raises:
        NotImportableError: it cannot be read, or is no mapping.
    """
    try:
        text = file.read_text(encoding="utf-8")
        data = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise NotImportableError(f"{file} cannot be read ({error}).") from error
    if not isinstance(data, dict):
        raise NotImportableError(f"{file} is no mapping of names to what they mean.")
    return Configuration(file, data)  # pyright: ignore[reportUnknownArgumentType]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return Expression(text)
