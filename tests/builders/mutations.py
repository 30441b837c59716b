"""Every single value of a manifest, and what else could stand in its place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from models.manifest import Manifest
from models.manifest.attributes import SELECTOR_ATTRIBUTES
from models.manifest.digest import decides_nothing

__all__ = [
    "FieldPath",
    "candidates",
    "deciding_leaves",
    "leaves",
    "reordered",
    "replaced",
    "value_at",
]

FieldPath = tuple[str | int, ...]
Data = TypeVar("Data", dict[str, Any], list[dict[str, Any]])
_CODE = {"scheme": "SCT", "value": "1", "meaning": "Something"}


def leaves(node: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """The places of all values below a node that hold no others."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list) and node:
        for place, value in enumerate(node):
            yield from leaves(value, (*path, place))
    else:
        yield path


def deciding_leaves(data: dict[str, Any]) -> list[FieldPath]:
    """The places of all values that the digest covers."""
    return [
        path
        for path in leaves(data)
        if not decides_nothing(["*" if isinstance(step, int) else step for step in path])
    ]


def value_at(data: Any, path: FieldPath) -> Any:
    """The value in a place."""
    for step in path:
        data = data[step]
    return data


def replaced(data: Data, path: FieldPath, value: Any) -> Data:
    """A copy with another value in one place."""
    changed = copy.deepcopy(data)
    value_at(changed, path[:-1])[path[-1]] = value
    return changed


def candidates(value: Any) -> list[Any]:
    """Other values of a leaf; which of them a manifest may hold, its schema says."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        near = [value + 1, value - 1] if isinstance(value, int) else [value * 1.1 + 0.01, value / 2]
        return [one for one in (*near, *_of_vocabulary(value)) if one != value]
    if isinstance(value, str):
        # No other case: attributes and packages are compared without regard to it.
        own = [f"{value}x", value[:-1], value[::-1]]
        return [one for one in dict.fromkeys((*own, *_of_vocabulary(value))) if one != value]
    if value is None:
        return [True, False, 1, 1.5, "x", ["x"], [1.0], _CODE, *_words(), *_numbers()]
    return [["x"], [1], [1.0], [_CODE]]


def reordered(node: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, list[Any]]]:
    """The place and the reverse of every list below a node that is not its own reverse."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from reordered(value, (*path, key))
    elif isinstance(node, list):
        if node != node[::-1]:
            yield path, node[::-1]
        for place, value in enumerate(node):
            yield from reordered(value, (*path, place))


def _of_vocabulary(value: Any) -> list[Any]:
    """The other words, where a value is one of several that the schema lists."""
    words = _words() if isinstance(value, str) else _numbers()
    return words if value in words else []


def _words() -> list[str]:
    listed = [one for one in _enumerated() if isinstance(one, str)]
    return [*listed, *SELECTOR_ATTRIBUTES]


def _numbers() -> list[int]:
    return [one for one in _enumerated() if isinstance(one, int)]


def _enumerated() -> list[Any]:
    schema = Manifest.model_json_schema()
    return [value for listed in _collected(schema, "enum") for value in listed]


def _collected(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for value in node.values():
            yield from _collected(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _collected(value, key)
