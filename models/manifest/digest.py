"""The digest of a model: one value for everything that decides a result.

Covered: the manifest's content (with the hashes of wheels and weight files in it), the target,
the precision and the version of the runtime's arithmetic. Left out are only texts and hints
that no result, no object made from it and no sentence about it shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["RUNTIME_VERSION", "content_digest", "decides_nothing"]

# Raised by whoever changes models/runtime so that any voxel could come out differently.
RUNTIME_VERSION: Final = "axial-runtime/6"

# Paths in the manifest that decide nothing; "*" stands for every key or list place.
_UNDECISIVE: Final = (
    ("identity", "description"),
    ("identity", "citation"),
    ("identity", "licence"),
    ("sources", "*", "licence"),
    ("sources", "*", "copyright"),
    ("resources",),
    ("acceptance", "parity"),
    # For who reads the manifest: why a limit was chosen.
    ("findings", "*", "why"),
    # Which precisions may be built; the one that was is named beside the content.
    ("precision",),
)


def content_digest(content: dict[str, Any], *, precision: str, target: str) -> str:
    """Return the sha256 (hex) of a manifest's deciding content and of how it was built.

    `content` is the manifest as JSON-able data (`Manifest.model_dump(mode="json")`).
    """
    decisive = _without_undecisive(content, ())
    document = {
        "content": decisive,
        "precision": precision,
        "runtime": RUNTIME_VERSION,
        "target": target,
    }
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def decides_nothing(path: Sequence[str]) -> bool:
    """Whether a field is left out of the digest, or lies in a field that is.

    `path`: keys, and "*" for the places of lists.
    """
    return any(
        len(pattern) <= len(path)
        and all(want in ("*", have) for want, have in zip(pattern, path, strict=False))
        for pattern in _UNDECISIVE
    )


def _without_undecisive(node: Any, path: tuple[str, ...]) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_undecisive(value, (*path, key))
            for key, value in node.items()  # pyright: ignore[reportUnknownVariableType]
            if not decides_nothing((*path, key))
        }
    if isinstance(node, list):
        return [_without_undecisive(value, (*path, "*")) for value in node]  # pyright: ignore[reportUnknownVariableType]
    return node
