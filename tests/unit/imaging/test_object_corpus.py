"""The stored objects' fuzzing corpus, once; and every seed with damage in many places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import UID

from services.listener.peers.presentation_contexts import TRANSFER_SYNTAXES
from tests.fuzz.make_object_corpus import seeds
from tests.fuzz.stored_object import read_everywhere

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "objects"
SEEDS = sorted(path.name for path in CORPUS.iterdir())


def test_there_is_a_seed_of_every_transfer_syntax() -> None:
    assert {UID(syntax).keyword for syntax in TRANSFER_SYNTAXES} <= set(SEEDS)
    assert set(seeds()) <= set(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_of_a_syntax_is_read(seed: str) -> None:
    read = read_everywhere(CORPUS / seed)
    if seed in seeds():
        assert read == "pixels"


@pytest.mark.parametrize("seed", SEEDS)
def test_damage_anywhere_is_read_or_answered(seed: str, tmp_path: Path) -> None:
    sound = (CORPUS / seed).read_bytes()
    file = tmp_path / "damaged.dcm"
    random = np.random.default_rng(len(seed))
    for _ in range(150):
        content = bytearray(sound)
        place = int(random.integers(132, len(content)))
        kind = int(random.integers(3))
        if kind == 0:
            content[place] = int(random.integers(256))
        elif kind == 1:
            del content[place:]
        else:
            content[place : place + 4] = random.bytes(4)
        file.write_bytes(content)
        read_everywhere(file)
