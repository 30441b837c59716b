"""What is left for a person to look at, whatever a model was imported from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.importing.said import Said, ToReview

__all__ = ["review_of_what_nobody_said"]

_NAMED: Final = 5


def review_of_what_nobody_said(said: Said, licence: str, generic: Sequence[str]) -> list[ToReview]:
    """Return the fields that have stand-ins.

    Args:
        said: by a person.
        licence: by the published files.
        generic: labels whose segments have generic codes.
    """
    reviews: list[ToReview] = []
    if generic:
        more = f" and {len(generic) - _NAMED} more" if len(generic) > _NAMED else ""
        reviews.append(
            ToReview(
                "segments.*.category, type, region",
                f"generic codes for {', '.join(generic[:_NAMED])}{more}, which tell a reader "
                "nothing; give --codes FILE, or write them",
            )
        )
    if said.case is None:
        reviews.append(
            ToReview(
                "acceptance.parity.case",
                "a made volume, in which a trained network may find nothing; give --case FILE, a "
                "scan that shows what it segments",
            )
        )
    for field, told in (
        ("identity.licence", said.licence or licence),
        ("identity.manufacturer", said.manufacturer),
    ):
        if not told:
            reviews.append(ToReview(field, "nobody said it"))
    return reviews
