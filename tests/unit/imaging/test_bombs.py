"""No object costs more memory than its own matrix and a head may take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.fates import Refusal
from services.imaging import read_series
from tests.builders.bombs import BOMBS

# One head and its reading; the smallest bomb is six times as large.
_MOST_MIB = 64
_CHILD = """
import json, resource, sys
from pathlib import Path
from services.imaging import read_series
from tests.builders.series import small_volume, sound_series
folder, files = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
{warm_up}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answer = read_series(files)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([type(answer).__name__, getattr(answer, "reason", ""), (after - before) >> 10]))
"""
_WARM_UP = "read_series(sound_series(folder, small_volume((3, 64, 48))))"


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_its_own_bound(name: str, tmp_path: Path) -> None:
    files = BOMBS[name](tmp_path / "bomb")
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(warm_up=_WARM_UP), tmp_path / "warm", *files],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    kind, reason, grown_mib = json.loads(done.stdout.splitlines()[-1])
    assert (kind, reason) == ("Refusal", "pixels_unreadable")
    assert grown_mib < _MOST_MIB


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deflated pixels", "it inflates to more than"),
        ("deflated garbage", "it does not inflate"),
        ("rle long frame", "its matrix and its head take at most"),
        ("rle runs", "their runs are of more than the 6144 bytes of their matrix"),
        ("jpeg 2000", "their code stream is of 16000 x 16000 pixels"),
    ],
)
def test_a_bomb_is_named_for_what_it_is(name: str, words: str, tmp_path: Path) -> None:
    refusal = read_series(BOMBS[name](tmp_path))
    assert isinstance(refusal, Refusal)
    assert words in refusal.sentence
