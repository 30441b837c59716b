"""Deciding a selector: pure functions from conditions and attributes to explained outcomes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.manifest.attributes import SELECTOR_ATTRIBUTES, AttributeKind, spoken
from models.manifest.roles import Condition, Preference

__all__ = ["ConditionOutcome", "evaluate", "rank", "words_of"]


@dataclass(frozen=True, slots=True)
class ConditionOutcome:
    """What became of one condition.

    `found` is the value as text (None when the series lacks the attribute), `expectation` what
    the model wants in words, `sentence` both for a reader who does not know DICOM keywords.
    """

    attribute: str
    found: str | None
    expectation: str
    passed: bool
    sentence: str


def evaluate(
    conditions: Sequence[Condition], attributes: Mapping[str, object]
) -> list[ConditionOutcome]:
    """Decide every condition, also after the first that fails, so that all reasons are shown.

    `attributes` maps DICOM keywords to stored values: text, numbers, or sequences of them.
    None, "" and empty sequences count as absent.
    """
    return [_decide(condition, attributes.get(condition.attribute)) for condition in conditions]


def rank(
    preferences: Sequence[Preference], attributes: Mapping[str, object]
) -> tuple[tuple[int, float], ...]:
    """Return a sorting key for one series: the smallest key is the best series."""
    return tuple(_key(preference, attributes) for preference in preferences)


def _decide(condition: Condition, stored: object) -> ConditionOutcome:
    kind = SELECTOR_ATTRIBUTES[condition.attribute]
    values = _values(stored)
    found = "\\".join(values) if values else None
    expectation = _expectation(condition)
    passed = _holds(condition, kind, values) if values else condition.absent_ok
    return ConditionOutcome(
        attribute=condition.attribute,
        found=found,
        expectation=expectation,
        passed=passed,
        sentence=_sentence(condition, values, expectation, passed),
    )


def words_of(text: str) -> str:
    """The words of a text, in small letters, one blank between them: "AX_T1 (+C)" -> "ax t1 c"."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _sentence(condition: Condition, values: Sequence[str], expectation: str, passed: bool) -> str:
    """Say it for a reader who knows the scanner, not DICOM keywords or patterns."""
    name = spoken(condition.attribute)
    has = f"{name} is {', '.join(values)}" if values else f"{name} is not given"
    if passed:
        return f"{has}, {'as wanted' if values else 'which is accepted'} ({condition.why})."
    if condition.none_of is not None and values:
        unwanted = {str(value).casefold() for value in condition.none_of}
        culprits = [value for value in values if value.casefold() in unwanted]
        return f"{has}, and the model does not take {' or '.join(culprits)} ({condition.why})."
    if condition.words_do_not_match is not None and values:
        met = [re.search(condition.words_do_not_match, words_of(value)) for value in values]
        words = " or ".join(f'"{each[0].strip()}"' for each in met if each)
        return f"{has}, and the model takes nothing that is called {words} ({condition.why})."
    return f"{has}, but the model wants {expectation} ({condition.why})."


def _values(stored: object) -> list[str]:
    """Flatten a stored value to its non-empty texts."""
    if stored is None:
        return []
    if isinstance(stored, list | tuple):
        return [text for item in stored for text in _values(item)]  # pyright: ignore[reportUnknownVariableType]
    text = f"{stored:g}" if isinstance(stored, float) else str(stored)
    return [part.strip() for part in text.split("\\") if part.strip()]


def _holds(condition: Condition, kind: AttributeKind, values: Sequence[str]) -> bool:
    if kind is AttributeKind.NUMBER:
        return _number_holds(condition, values)
    # Code strings have no small letters (PS3.5 6.2, CS), and people write them all the same.
    found = {value.casefold() for value in values}
    if condition.any_of is not None:
        return not found.isdisjoint(str(value).strip().casefold() for value in condition.any_of)
    if condition.none_of is not None:
        return found.isdisjoint(str(value).strip().casefold() for value in condition.none_of)
    if condition.words_match is not None:
        return any(re.search(condition.words_match, words_of(value)) for value in values)
    if condition.words_do_not_match is not None:
        pattern = condition.words_do_not_match
        return not any(re.search(pattern, words_of(value)) for value in values)
    if condition.matches is not None:
        return any(re.search(condition.matches, value, re.IGNORECASE) for value in values)
    pattern = condition.not_matches or ""
    return not any(re.search(pattern, value, re.IGNORECASE) for value in values)


def _number_holds(condition: Condition, values: Sequence[str]) -> bool:
    """Decide on every number given; a value that is no number never passes."""
    numbers = [_number(value) for value in values]
    if condition.any_of is not None:
        return any(number in condition.any_of for number in numbers)
    if condition.none_of is not None:
        return all(number is not None and number not in condition.none_of for number in numbers)
    low = float("-inf") if condition.at_least is None else condition.at_least
    high = float("inf") if condition.at_most is None else condition.at_most
    return all(number is not None and low <= number <= high for number in numbers)


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _key(preference: Preference, attributes: Mapping[str, object]) -> tuple[int, float]:
    values = _values(attributes.get(preference.attribute))
    if preference.first is not None:
        wanted = [value.casefold() for value in preference.first]
        places = [wanted.index(v.casefold()) for v in values if v.casefold() in wanted]
        return (0, float(min(places))) if places else (1, 0.0)
    number = _number(values[0]) if values else None
    if number is None:
        return (1, 0.0)
    return (0, -number if preference.order == "highest" else number)


def _expectation(condition: Condition) -> str:
    if condition.wants:
        return condition.wants
    if condition.any_of is not None:
        return _listed(condition.any_of)
    if condition.none_of is not None:
        return f"anything but {_listed(condition.none_of)}"
    if condition.matches is not None:
        return f"a text that fits /{condition.matches}/"
    if condition.not_matches is not None:
        return f"a text that does not fit /{condition.not_matches}/"
    if condition.words_match is not None:
        return f"a text with words that fit /{condition.words_match}/"
    if condition.words_do_not_match is not None:
        return f"a text without words that fit /{condition.words_do_not_match}/"
    ends = [
        f"at least {condition.at_least:g}" if condition.at_least is not None else "",
        f"at most {condition.at_most:g}" if condition.at_most is not None else "",
    ]
    return " and ".join(end for end in ends if end)


def _listed(values: Sequence[str | float]) -> str:
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
