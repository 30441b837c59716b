"""The HTTP door takes every input of its corpus: seeds, and what fuzzing ever found."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.fuzz.dicom_door import SYNTAXES
from tests.fuzz.stow_door import REQUEST, StowUnderTest, open_stow, run

CORPUS = Path(__file__).parents[3] / "fuzz" / "corpus" / "multipart"
INPUTS = sorted(CORPUS.iterdir())


@pytest.fixture(scope="module")
def door() -> Generator[StowUnderTest]:
    """A door with a spool in memory."""
    with open_stow() as opened:
        yield opened


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: file.name)
def test_every_input_of_the_corpus(file: Path, door: StowUnderTest) -> None:
    run(door, file.read_bytes())


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_a_seed_of_each_transfer_syntax_is_stored(
    syntax: str, step: int, door: StowUnderTest
) -> None:
    seed = (CORPUS / f"request_{syntax}").read_bytes()
    assert seed[0] == REQUEST
    assert door.serve(seed[2:], step) == 1
