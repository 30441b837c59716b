"""How the names in a file of weights become the names of a network's variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, TypeVar

from pydantic import Field

from models.building.errors import WeightsError
from models.manifest.base import Part

__all__ = ["KeyMap"]

T = TypeVar("T")


class KeyMap(Part):
    """Rules over names, applied in this order: `drop`, `strip`, `replace`.

    Attributes:
        drop: patterns (`*` any text) of names that are no part of the network: an optimiser's
            memory, counters. A pattern that meets no name is an error: the file is another one.
        strip: text that every other name begins with, taken off; a name without it is an error.
        replace: pairs of texts, each replaced wherever it stands in a name, in order.
    """

    drop: Annotated[tuple[str, ...], Field(strict=False)] = ()
    strip: str = ""
    replace: Annotated[tuple[tuple[str, str], ...], Field(strict=False)] = ()

    def within(self, scope: str) -> KeyMap:
        """Return the same rules for names that stand below a scope of the file."""
        return self.model_copy(update={"strip": scope + self.strip})

    def applied(self, tensors: Mapping[str, T]) -> dict[str, T]:
        """Return the tensors under the network's names.

        Raises:
            WeightsError: a pattern that drops nothing, a name without the text to strip, or two
                names that become one.
        """
        self._require_used(tensors)
        renamed: dict[str, T] = {}
        came_from: dict[str, str] = {}
        for name, tensor in tensors.items():
            if any(fnmatchcase(name, pattern) for pattern in self.drop):
                continue
            new = self._renamed(name)
            if new in renamed:
                raise WeightsError(
                    f"{came_from[new]} and {name} both become {new}. Correct the key map."
                )
            renamed[new], came_from[new] = tensor, name
        return renamed

    def _require_used(self, names: Iterable[str]) -> None:
        every = list(names)
        for pattern in self.drop:
            if not any(fnmatchcase(name, pattern) for name in every):
                raise WeightsError(
                    f"The key map drops {pattern}, and no variable of the file has such a name. "
                    "Take the pattern out, or check that the file is the right one."
                )

    def _renamed(self, name: str) -> str:
        if not name.startswith(self.strip):
            raise WeightsError(
                f"The variable {name} does not begin with {self.strip}, which the key map strips. "
                "Drop it by a pattern, or correct the text."
            )
        new = name[len(self.strip) :]
        for old, fresh in self.replace:
            new = new.replace(old, fresh)
        return new
