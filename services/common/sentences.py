"""The words of a verdict's sentence: values as people say them.

A sentence is a format string over the values of its verdict (`fates`). Here keywords become words,
lists become text, numbers of things agree with their nouns, and what an earlier version wrote down
is said as this version says it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from models.manifest import spoken

Value = str | int | float | bool | None

# PS3.6 7: letters and digits, each word with a capital.
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")
_COUNTED = re.compile(r"(?<![\d.])(\d+ )([\w ]+?)\(s\)")
# Values that not every verdict of a reason has, and those of before do not: words that name the
# images that stand out or that positions were rounded, and what a result that still stands says.
OPTIONAL_VALUES: Mapping[str, Value] = MappingProxyType({"odd": "", "rounded": "", "result": ""})
# Values that hold DICOM keywords, as `keywords_value` writes them; a sentence has them in words.
_KEYWORDS = frozenset({"attribute"})
# How several keywords are written as one value: as now, and as of before.
_BETWEEN_KEYWORDS = re.compile(r", | and ")


def keywords_value(keywords: Sequence[str]) -> str:
    """Several keywords as a verdict's value ``attribute``; its sentence has them in words."""
    return ", ".join(keywords)


def keyword_in_words(text: str) -> str:
    """A DICOM keyword as words within a sentence; any other text as it is."""
    if not _KEYWORD.fullmatch(text):
        return text
    words = spoken(text)
    return words if words[:2].isupper() else words[0].lower() + words[1:]


def range_in_words(least: Value, most: Value, unit: str) -> str:
    """What a range accepts: "0.3 to 6 mm", "at most 6 mm", "0.3 mm or more"."""
    if not isinstance(most, int | float) or math.isinf(most):
        return f"{least} {unit} or more"
    return f"{least} to {most} {unit}" if least else f"at most {most} {unit}"


def in_words(values: Mapping[str, Value]) -> dict[str, Value]:
    """The values as a sentence says them: keywords as words, what may be absent as nothing."""
    keywords = {
        name: _listed(
            [keyword_in_words(part) for part in _BETWEEN_KEYWORDS.split(str(values[name]))]
        )
        for name in _KEYWORDS & values.keys()
    }
    return {**OPTIONAL_VALUES, **_of_before(values), **values, **keywords}


def counted(sentence: str) -> str:
    """A sentence with its numbers of things said as people do: "1 image", "2 images"."""
    return _COUNTED.sub(
        lambda found: found[1] + found[2] + ("" if found[1].strip() == "1" else "s"), sentence
    )


def _of_before(values: Mapping[str, Value]) -> dict[str, Value]:
    """What earlier versions said with other values."""
    if "minimum_mm" in values and "maximum_mm" in values:
        return {"accepted": range_in_words(values["minimum_mm"], values["maximum_mm"], "mm")}
    return {}


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
