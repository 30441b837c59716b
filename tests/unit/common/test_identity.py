"""UIDs: the same work twice makes the same objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.identity import derived_uid, hashed, is_strict_uid, is_uid, job_uid


@given(st.lists(st.text(), min_size=1))
def test_derived_uid_is_valid_and_repeatable(parts: list[str]) -> None:
    uid = derived_uid(*parts)
    assert uid == derived_uid(*parts)
    assert is_strict_uid(uid)
    assert len(uid) <= 64


def test_known_uid_never_changes() -> None:
    # Delivered objects carry UIDs made by this function: another value here breaks them all.
    assert derived_uid("known", 1) == "2.25.227149996339832158044364703521930462952"


def test_parts_are_kept_apart() -> None:
    assert derived_uid("a", "bc") != derived_uid("ab", "c")


def test_another_model_digest_makes_another_job() -> None:
    assert job_uid("1.2", 1, "a", "s") != job_uid("1.2", 1, "b", "s")


@pytest.mark.parametrize("text", ["", "1", "..", "1..2", "1.2/3", "1.2.", "a.b", "1." + "2" * 64])
def test_what_is_no_uid_never_becomes_a_path(text: str) -> None:
    assert not is_uid(text)


def test_leading_zeros_are_forgiven_in_what_others_send() -> None:
    assert is_uid("1.02.3")
    assert not is_strict_uid("1.02.3")


def test_hash_does_not_show_the_uid() -> None:
    assert "1.2.3" not in hashed("1.2.3")
    assert len(hashed("1.2.3")) == 12
