"""Roles: what a model wants as input, as conditions over DICOM attributes and limits.

A selector is a list of conditions, all of which must hold. `models.manifest.selector` decides
them; here they are only described and checked, so that a rule that could never work (unknown
attribute, broken pattern, number compared with text) is an error when the manifest is read.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from models.manifest.attributes import SELECTOR_ATTRIBUTES, AttributeKind
from models.manifest.base import Name, Part

__all__ = ["Accepts", "Align", "Choose", "Condition", "Gate", "Limits", "Preference", "Role"]


class Choose(StrEnum):
    """What happens when several series of a study fit a role."""

    BEST = "best"
    EVERY = "every"


def _known(attribute: str) -> str:
    if attribute not in SELECTOR_ATTRIBUTES:
        raise ValueError(
            f"{attribute} is not an attribute that a selector can ask for; "
            f"known are {', '.join(sorted(SELECTOR_ATTRIBUTES))}"
        )
    return attribute


# A series that lacks the attribute has none of what is unwanted.
_NEGATIVE = ("none_of", "not_matches", "words_do_not_match")
_PATTERNS = ("matches", "not_matches", "words_match", "words_do_not_match")


class Condition(Part):
    r"""One demand on one attribute.

    Exactly one of `any_of`, `none_of`, `matches`, `not_matches`, `words_match`,
    `words_do_not_match`, or `at_least` and/or `at_most`. Patterns are searched without regard to
    case; those of the two `words` forms in the text's words alone: whatever is no letter or digit
    is one blank there, so that ``\bt1`` finds "AX_T1" and not "REST1". `absent_ok` says whether a
    series that lacks the attribute passes; unset, it passes the negative forms and fails the
    others. `why` is shown to the reader of a fate, and so is `wants`, what the model wants in
    words, where a pattern would not be understood.
    """

    attribute: str
    any_of: Annotated[tuple[str | float, ...], Field(min_length=1, strict=False)] | None = None
    none_of: Annotated[tuple[str | float, ...], Field(min_length=1, strict=False)] | None = None
    matches: str | None = None
    not_matches: str | None = None
    words_match: str | None = None
    words_do_not_match: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    absent_ok: bool = False
    wants: str = ""
    why: Annotated[str, Field(min_length=1)]

    @field_validator("attribute")
    @classmethod
    def _attribute_is_known(cls, attribute: str) -> str:
        return _known(attribute)

    @field_validator("matches", "not_matches", "words_match", "words_do_not_match")
    @classmethod
    def _pattern_compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return pattern

    @model_validator(mode="before")
    @classmethod
    def _said_or_not_is_the_same(cls, given: Any) -> Any:
        # What is left to the default has the digest of what says it.
        if not isinstance(given, dict) or given.get("absent_ok") is not None:
            return given
        negative = any(given.get(form) is not None for form in _NEGATIVE)
        return {**given, "absent_ok": negative}

    @model_validator(mode="after")
    def _one_demand_that_fits_the_kind(self) -> Condition:
        limits = self.at_least is not None or self.at_most is not None
        given = [
            name for name in ("any_of", "none_of", *_PATTERNS) if getattr(self, name) is not None
        ] + (["at_least/at_most"] if limits else [])
        if len(given) != 1:
            raise ValueError(
                f"a condition needs exactly one of any_of, none_of, {', '.join(_PATTERNS)}, "
                f"at_least/at_most; this one has {', '.join(given) or 'none'}"
            )
        kind = SELECTOR_ATTRIBUTES[self.attribute]
        if limits and kind is not AttributeKind.NUMBER:
            raise ValueError(f"{self.attribute} is no number, so at_least/at_most cannot apply")
        if given[0] in _PATTERNS and kind is AttributeKind.NUMBER:
            raise ValueError(f"{self.attribute} is a number, so a pattern cannot apply")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}")
        wanted = self.any_of or self.none_of or ()
        if any(isinstance(value, str) is (kind is AttributeKind.NUMBER) for value in wanted):
            form = "numbers" if kind is AttributeKind.NUMBER else "text in quotes"
            raise ValueError(f"the values for {self.attribute} must be {form}")
        return self


class Preference(Part):
    """One key by which fitting series are ordered; earlier keys weigh more.

    Either `first`, values in falling preference (a series with none of them comes last), or
    `order`, which prefers the highest or the lowest number (unknown comes last).
    """

    attribute: str
    first: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    order: Literal["highest", "lowest"] | None = None
    why: Annotated[str, Field(min_length=1)]

    @field_validator("attribute")
    @classmethod
    def _attribute_is_known(cls, attribute: str) -> str:
        return _known(attribute)

    @model_validator(mode="after")
    def _one_order_that_fits_the_kind(self) -> Preference:
        if (self.first is None) is (self.order is None):
            raise ValueError("a preference needs exactly one of first, order")
        number = SELECTOR_ATTRIBUTES[self.attribute] is AttributeKind.NUMBER
        if number is not (self.order is not None):
            raise ValueError(
                f"{self.attribute} takes {'order' if number else 'first'}, because it is "
                f"{'a number' if number else 'no number'}"
            )
        return self


class Limits(Part):
    """A closed range in millimetres; an end that is None is open."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _ends_in_order(self) -> Limits:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Accepts(Part):
    """What a model accepts beyond one regular box per series; each has to be declared.

    Tilted and unevenly spaced slices are resampled onto a regular grid for the networks, and the
    labels return to every slice. `several_volumes` is about series that hold several volumes
    (time points, echoes) of which more than one passes the selector and none is preferred:
    `refuse` them, or choose the `first`.
    """

    gantry_tilt: bool = False
    uneven_spacing: bool = False
    several_volumes: Literal["refuse", "first"] = "refuse"


class Gate(Part):
    """Limits on the assembled volume, checked before inference.

    `spacing_mm` holds for all three axes, `min_extent_mm` for the shortest side of the field of
    view, `min_slices` for the source's slices.
    """

    min_slices: Annotated[int, Field(ge=1)] = 1
    max_slices: Annotated[int, Field(ge=1)] | None = None
    spacing_mm: Limits = Limits()
    min_extent_mm: Annotated[float, Field(ge=0)] = 0.0
    accepts: Accepts = Accepts()


class Align(Part):
    """How a role's image lies to that of another role, `to`.

    `same-frame`: both name one frame of reference. `rigid`, `affine`: it is registered to the other
    one by a step of the plan, and refused where the two agree less than `refuse_below`
    (`models.runtime.registration`: 0 they tell nothing of each other, 1 each tells all of the
    other).
    """

    to: Name
    by: Literal["same-frame", "rigid", "affine"]
    refuse_below: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None

    @model_validator(mode="after")
    def _a_registration_is_judged(self) -> Align:
        if (self.by == "same-frame") != (self.refuse_below is None):
            raise ValueError(
                "`refuse_below` says which registration is too poor: rigid and affine need it, "
                "same-frame has none"
            )
        return self


class Role(Part):
    """A named input of a model.

    `use`: labels return to the slices of the one that is the `grid`; an `aligned` one is brought
    onto another. `if_missing`: a study without it is not read, or it is seen as `zeros`, and the
    result says so.
    """

    title: Annotated[str, Field(min_length=1)]
    use: Literal["grid", "aligned"] = "grid"
    align: Align | None = None
    if_missing: Literal["refuse", "zeros"] = "refuse"
    selector: Annotated[tuple[Condition, ...], Field(min_length=1, strict=False)]
    choose: Annotated[Choose, Field(strict=False)] = Choose.BEST
    prefer: Annotated[tuple[Preference, ...], Field(strict=False)] = ()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _is_aligned_to_something(self) -> Role:
        if (self.use == "aligned") != (self.align is not None):
            raise ValueError("`align` says what a role of use: aligned is brought onto")
        if self.use == "grid" and self.if_missing != "refuse":
            raise ValueError("without the role of use: grid there are no slices for the labels")
        return self
