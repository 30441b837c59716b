"""Fates and reasons: one list, a sentence and a page for each."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from services.common.fates import REASONS, Fate, Refusal, Verdict

_PAGES = Path(__file__).parents[3] / "docs" / "reasons"


def _fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("code", sorted(REASONS))
def test_every_reason_has_a_page_that_names_its_values(code: str) -> None:
    page = (_PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {code}\n")
    assert f"`{REASONS[code].fate}`" in page
    for name in _fields(REASONS[code].sentence):
        assert f"`{name}`" in page, f"{code}.md does not explain the value {name}"


def test_every_page_and_the_list_of_reasons_say_the_sentence_that_is_said() -> None:
    listed = (_PAGES / "README.md").read_text(encoding="utf-8")
    fates = re.split(r"^## ", listed, flags=re.MULTILINE)[1:]
    assert [part.split()[0] for part in fates] == [fate.value for fate in Fate]
    for code, text in REASONS.items():
        page = (_PAGES / f"{code}.md").read_text(encoding="utf-8")
        assert re.findall(r"^> (.*)$", page, re.MULTILINE)[0] == text.sentence, code
        of_fate = fates[list(Fate).index(text.fate)]
        assert f"- [{code}]({code}.md): {text.sentence}\n" in of_fate, code
    assert listed.count("\n- [") == len(REASONS)


def test_every_page_belongs_to_a_reason() -> None:
    pages = {page.stem for page in _PAGES.glob("*.md")} - {"README"}
    assert pages == set(REASONS)


def test_every_fate_has_a_reason() -> None:
    assert {text.fate for text in REASONS.values()} == set(Fate)


@pytest.mark.parametrize("code", sorted(REASONS))
def test_remedy_needs_no_value_that_the_sentence_lacks(code: str) -> None:
    text = REASONS[code]
    assert _fields(text.remedy) <= _fields(text.sentence)
    assert re.match(r"[a-z_]+$", code)


@pytest.mark.parametrize("code", [c for c, t in REASONS.items() if t.fate is Fate.REFUSED])
def test_every_refusal_says_what_to_do(code: str) -> None:
    assert REASONS[code].remedy


def test_unknown_reason_fails_where_it_is_made() -> None:
    with pytest.raises(KeyError):
        Verdict("no_such_reason")


def test_missing_value_fails_where_it_is_made() -> None:
    with pytest.raises(KeyError):
        Refusal("single_slice", {"slices": 1})


def test_sentence_is_filled_with_the_values() -> None:
    verdict = Refusal("single_slice", {"slices": 1, "minimum": 20})
    assert verdict.fate is Fate.REFUSED
    assert verdict.sentence == "This series has 1 image; a volume needs at least 20."


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict("single_slice", {"slices": 1, "minimum": 2}), "This series has 1 image; a volume"),
        (Verdict("single_slice", {"slices": 0, "minimum": 2}), "This series has 0 images; a"),
        (
            Verdict("known_elsewhere", {"count": 21, "kept_series": "1.2", "kept_study": "1.3"}),
            "21 images of this series came",
        ),
        (
            Verdict("conflicting_images", {"count": 1, "instance": "7"}),
            "came under 1 SOP Instance UID of this series",
        ),
        (
            Verdict("missing_geometry", {"instance": "3", "attribute": "ImagePositionPatient"}),
            "(image position patient is absent",
        ),
        (
            Verdict(
                "several_volumes",
                {"volumes": 2, "attribute": "EchoTime, DiffusionBValue, ImageType"},
            ),
            "differ in echo time, diffusion b value and image type.",
        ),
        (
            Verdict("several_volumes", {"volumes": 2, "attribute": "their positions"}),
            "differ in their positions.",
        ),
    ],
)
def test_sentences_count_and_speak_as_people_do(verdict: Verdict, words: str) -> None:
    assert words in verdict.sentence


def test_a_result_that_still_stands_is_said_again() -> None:
    values = {
        "earlier_revision": 1,
        "result": " Brain extraction segmented this series: Brain 9 mL.",
    }
    assert Verdict("unchanged", values).sentence.endswith(
        "still stands. Brain extraction segmented this series: Brain 9 mL."
    )
    # One that an earlier version wrote down.
    assert Verdict("unchanged", {"earlier_revision": 1}).sentence.endswith("still stands.")


def test_no_sentence_has_a_word_of_the_program() -> None:
    """A radiographer reads them: no keyword, no exception, no word of code."""
    for code, text in REASONS.items():
        for part in (text.sentence, text.remedy):
            bare = re.sub(r"{\w+}|`[^`]*`", "", part)
            assert not re.search(r"[a-z][A-Z]|Error\b|None\b|_", bare), code
