"""The card of an imported model: what it is, where it is from, and what a person is to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.importing.said import ToReview

__all__ = ["card_text"]


def card_text(
    data: dict[str, Any], origin: Sequence[tuple[str, str]], to_review: Sequence[ToReview]
) -> str:
    """Return the card as Markdown.

    Args:
        data: the manifest.
        origin: facts of the published model, each with its name.
        to_review: what is left to do.
    """
    identity = data["identity"]
    name = identity["name"]
    segments = ", ".join(f"{one['number']} {one['label']}" for one in data["segments"])
    lines = [
        f"# {name}: {identity['title']}",
        "",
        identity["description"],
        "",
        "| | |",
        "|---|---|",
        *(f"| Input | {role['title']}, one series |" for role in data["roles"].values()),
        f"| Output | {segments} |",
        *(f"| {what} | {value} |" for what, value in origin),
        f"| Licence of the weights | {identity['licence']} |",
        "",
        "Nothing here says how well it segments, or on whom: that is the authors' to say and the "
        "site's to find out.",
        "",
        "## To be looked at before it is served",
        *(f"- `{one.field}`: {one.why}" for one in to_review),
        "",
        "## Then",
        f"`axial models lint {name}`, `axial models explain {name}`, `axial models build {name}`, "
        f"`axial models verify {name}`.",
    ]
    return "\n".join(lines) + "\n"
