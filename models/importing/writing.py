"""A manifest as text that a person reads and corrects: sections in order, with comments."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from typing import Any, Final

import yaml

__all__ = ["manifest_text"]

_WIDTH: Final = 100


class _Dumper(yaml.SafeDumper):
    """Writes what stands several times once, under a name that says what it is."""

    def generate_anchor(self, node: yaml.Node) -> str:
        """Name an anchor: the first is what the networks share."""
        made = super().generate_anchor(node)
        return "architecture" if made == "id001" else made


class _Text(str):
    """Text that is folded over lines."""


def _folded(dumper: yaml.SafeDumper, text: _Text) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=">")


_Dumper.add_representer(_Text, _folded)


def manifest_text(head: str, data: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Write a manifest as YAML.

    Args:
        head: a comment above all.
        data: the manifest, its sections in order.
        comments: for a section, a comment above it.
    """
    parts = [_comment(head)]
    for name, content in data.items():
        comment = _comment(comments[name]) if name in comments else ""
        parts.append(comment + _section(name, _with_folded_text(content)))
    return "\n".join(parts)


def _section(name: str, content: Any) -> str:
    """Write one key below which short things stand in one line."""
    stream = io.StringIO()
    dumper = _Dumper(
        stream, sort_keys=False, default_flow_style=None, allow_unicode=True, width=_WIDTH
    )
    dumper.open()
    node = dumper.represent_data({name: content})
    if isinstance(node, yaml.MappingNode):
        node.flow_style = False
    dumper.serialize(node)
    dumper.close()
    return stream.getvalue()


def _comment(text: str) -> str:
    lines = [
        line
        for paragraph in text.split("\n")
        for line in (textwrap.wrap(paragraph, _WIDTH - 2, break_on_hyphens=False) or [""])
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _with_folded_text(content: Any) -> Any:
    """Mark long texts; whatever stands several times stays one object."""
    if isinstance(content, dict) and "description" in content:
        said = str(content["description"])
        if len(said) > _WIDTH - len("  description: "):
            return {**content, "description": _Text(said)}
    return content
