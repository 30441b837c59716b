"""b-values and gradient directions that vendors tell in attributes of their own.

Where an image has no public DiffusionBValue (0018,9087), it is filled from what its vendor
documents: Siemens (0019,100C) and (0019,100E), its "MR Header"; GE the first of (0043,1039), to
which some sequences add 1e9, and (0019,10BB) to (0019,10BD); United Imaging (0065,1009) and
(0065,1037); Canon the comment "b=1500(0.445,0.000,0.895)". Each counts only beside the private
creator that gives it its meaning (PS3.5 7.8.1). GE and Canon tell directions in the image's own
frame, not the patient's: they serve to tell volumes apart, and for nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from services.common.headers import AttributeValue, InstanceHeader, codes_of

_Header = TypeVar("_Header", bound=InstanceHeader)
_Attributes = Mapping[str, AttributeValue]

_B_VALUE, _DIRECTION = "DiffusionBValue", "DiffusionGradientOrientation"
# GE keeps this in (0043,107F) and adds it to the b-value of its multi-b and synthetic series.
_GE_BIAS = 10**9
_CANON = re.compile(r"b=([0-9.]+)\(([^,()]+),([^,()]+),([^,()]+)\)")


def with_diffusion(header: _Header) -> _Header:
    """The header with b-value and direction, where only its vendor's own attributes tell them."""
    attributes = header.attributes
    found = (
        _of_siemens(attributes)
        or _of_ge(attributes)
        or _of_united_imaging(attributes)
        or _of_canon(attributes)
    )
    missing = {name: value for name, value in found.items() if attributes.get(name) is None}
    return replace(header, attributes={**attributes, **missing}) if missing else header


def _of_siemens(attributes: _Attributes) -> dict[str, AttributeValue]:
    if attributes.get("(0019,0010)") != "SIEMENS MR HEADER":
        return {}
    return _gradient(_texts(attributes, "(0019,100C)"), _texts(attributes, "(0019,100E)"))


def _of_ge(attributes: _Attributes) -> dict[str, AttributeValue]:
    if attributes.get("(0043,0010)") != "GEMS_PARM_01":
        return {}
    value = _number(next(iter(_texts(attributes, "(0043,1039)")), ""))
    if value is None:
        return {}
    value -= _GE_BIAS if value >= _GE_BIAS else 0
    # Images that are no diffusion have a 0 here too.
    if value == 0 and "EP" not in codes_of(attributes.get("ScanningSequence")):
        return {}
    direction: list[str] = []
    if attributes.get("(0019,0010)") == "GEMS_ACQU_01":
        for keyword in ("(0019,10BB)", "(0019,10BC)", "(0019,10BD)"):
            direction += _texts(attributes, keyword)
    return _gradient([f"{value:g}"], direction)


def _of_united_imaging(attributes: _Attributes) -> dict[str, AttributeValue]:
    if attributes.get("(0065,0010)") != "Image Private Header":
        return {}
    return _gradient(_texts(attributes, "(0065,1009)"), _texts(attributes, "(0065,1037)"))


def _of_canon(attributes: _Attributes) -> dict[str, AttributeValue]:
    comment = _CANON.fullmatch(next(iter(_texts(attributes, "ImageComments")), ""))
    return {} if comment is None else _gradient([comment[1]], list(comment.groups()[1:]))


def _gradient(values: Sequence[str], direction: Sequence[str]) -> dict[str, AttributeValue]:
    value = _number(values[0]) if values else None
    if value is None or value < 0:
        return {}
    attributes: dict[str, AttributeValue] = {_B_VALUE: values[0]}
    if len(direction) == 3 and all(_number(each) is not None for each in direction):
        attributes[_DIRECTION] = list(direction)
    return attributes


def _texts(attributes: _Attributes, keyword: str) -> list[str]:
    value = attributes.get(keyword)
    return value if isinstance(value, list) else [value] if value else []


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
