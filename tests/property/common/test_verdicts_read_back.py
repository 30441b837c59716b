"""What was written down about a fate is read back whatever it is: by older and newer code."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.common.fates import REASONS, Fate, Verdict, read_verdict
from services.common.sentences import OPTIONAL_VALUES

values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


def _fields(code: str) -> list[str]:
    text = REASONS[code]
    return sorted(
        {
            n
            for part in (text.sentence, text.remedy)
            for _, n, _, _ in string.Formatter().parse(part)
            if n
        }
    )


@pytest.mark.parametrize("code", sorted(REASONS))
@given(data=st.data())
def test_a_known_reason_is_said_with_whatever_values_were_kept(
    code: str, data: st.DataObject
) -> None:
    names = _fields(code)
    kept = data.draw(st.dictionaries(st.sampled_from([*names, "more"]), values))
    read = read_verdict(code, kept, data.draw(st.sampled_from([*Fate, "invented"])))
    assert read.fate is REASONS[code].fate
    assert read.sentence
    assert isinstance(read.remedy, str)
    assume("(not said)" not in kept.values())
    missing = [name for name in names if name not in kept]
    said = read.sentence + read.remedy
    assert ("(not said)" in said) == any(name not in OPTIONAL_VALUES for name in missing)


@pytest.mark.parametrize("code", sorted(REASONS))
def test_a_verdict_reads_back_as_it_was_made(code: str) -> None:
    made = Verdict(code, {name: f"{number} x" for number, name in enumerate(_fields(code))})
    read = read_verdict(made.reason, made.values, made.fate)
    assert (read.fate, read.sentence, read.remedy) == (made.fate, made.sentence, made.remedy)


@given(
    st.text(max_size=48).filter(lambda code: code not in REASONS),
    st.dictionaries(st.text(max_size=10), values, max_size=4) | st.none(),
    st.sampled_from(list(Fate)),
)
def test_an_unknown_reason_is_shown_as_it_is(
    code: str, kept: dict[str, Any] | None, fate: Fate
) -> None:
    read = read_verdict(code, kept, fate)
    if code:
        assert code in read.sentence
        assert read.fate is fate
    assert read.remedy == "" or not code


@pytest.mark.parametrize("broken", [["a"], "text", 7])
def test_values_that_are_no_values_are_passed_over(broken: Any) -> None:
    assert "(not said)" in read_verdict("single_slice", broken, Fate.REFUSED).sentence


def test_what_is_made_is_still_held_to_the_list() -> None:
    with pytest.raises(KeyError):
        Verdict("single_slice", {"slices": 1})
