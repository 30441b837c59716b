"""YAML with its places: the data of a document, and the line on which each field stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from models.manifest.errors import ManifestError

__all__ = ["Document", "parse_document", "read_document"]


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed YAML and, for each path of keys and list places, its 1-based line."""

    data: Any
    lines: dict[tuple[str | int, ...], int]

    def line_of(self, path: Sequence[str | int]) -> tuple[int, tuple[str | int, ...]]:
        """Return the line of the deepest known part of `path`, and that part.

        Steps that are not in the document (a union's tag, a missing key) are passed over.
        """
        known: tuple[str | int, ...] = ()
        for step in path:
            if (*known, step) in self.lines:
                known = (*known, step)
        return self.lines[known], known


def read_document(file: Path) -> Document:
    """Read a YAML file.

    Raises:
        ManifestError: the file is missing, not UTF-8, not YAML, or has a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            file, f"cannot be read ({error}).", "Check the path and that it is UTF-8 text."
        ) from error
    return parse_document(text, file)


def parse_document(text: str, file: Path | str) -> Document:
    """Parse YAML.

    Args:
        text: the YAML.
        file: where the text came from, for messages.

    Raises:
        ManifestError: the text is empty, not YAML, or has a key twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        problem = getattr(error, "problem", None) or "not YAML"
        raise ManifestError(
            file, f"not valid YAML: {problem}.", "Correct the syntax.", line=line
        ) from error
    if node is None:
        raise ManifestError(file, "is empty.", "Write a manifest, schema axial.model/v1.")
    lines: dict[tuple[str | int, ...], int] = {}
    _collect(file, node, (), node.start_mark.line + 1, lines)
    return Document(data, lines)


def _collect(
    file: Path | str,
    node: yaml.Node,
    path: tuple[str | int, ...],
    line: int,
    lines: dict[tuple[str | int, ...], int],
) -> None:
    lines[path] = line
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            step = (*path, str(key.value))
            if step in lines:
                raise ManifestError(
                    file,
                    f"the key {key.value} stands twice (first on line {lines[step]}).",
                    "Keep one of them.",
                    line=key.start_mark.line + 1,
                    field=".".join(map(str, step)),
                )
            _collect(file, value, step, key.start_mark.line + 1, lines)
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            _collect(file, value, (*path, place), value.start_mark.line + 1, lines)
