"""No object costs more memory than its own matrix and a head may take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from services.common.fates import Refusal
from services.imaging import read_series
from services.listener.peers.presentation_contexts import TRANSFER_SYNTAXES
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
# What reporting reads of the same files: the patient of each, and the head of a source's first.
_REPORTING = """
import json, resource, sys
from pathlib import Path
from services.common.headers import HeaderError
from services.common.stored_objects import StoredObjectError
from services.imaging.header_files import read_headers
from services.reporting.source.patients import differing_patients
from services.reporting.source.series import source_series
from tests.builders.series import small_volume, sound_series
folder, files = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
def answer(ask):
    try:
        return type(ask()).__name__
    except (HeaderError, StoredObjectError) as error:
        return type(error).__name__
def asked(files):
    bomb_first = files[1:]
    patients = answer(lambda: differing_patients(files))
    return [patients, answer(lambda: source_series(read_headers(bomb_first), bomb_first[0]))]
sound = asked(sound_series(folder, small_volume((3, 64, 48))))
assert sound == ["list", "SourceSeries"], sound
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answers = asked(files)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([answers, (after - before) >> 10]))
"""


def _in_a_process(program: str, *arguments: Path) -> Any:
    """What a program prints last: its memory is its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_its_own_bound(name: str, tmp_path: Path) -> None:
    files = BOMBS[name](tmp_path / "bomb")
    program = _CHILD.format(warm_up=_WARM_UP)
    kind, reason, grown_mib = _in_a_process(program, tmp_path / "warm", *files)
    assert (kind, reason) == ("Refusal", "pixels_unreadable")
    assert grown_mib < _MOST_MIB


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_reporting_no_more_than_a_head(name: str, tmp_path: Path) -> None:
    files = BOMBS[name](tmp_path / "bomb")
    (patients, source), grown_mib = _in_a_process(_REPORTING, tmp_path / "warm", *files)
    assert patients in ("list", "StoredObjectError")
    assert source in ("SourceSeries", "StoredObjectError", "HeaderError", "Withholding")
    assert grown_mib < _MOST_MIB


def test_there_is_a_bomb_of_every_encoded_transfer_syntax(tmp_path: Path) -> None:
    files = [build(tmp_path / name)[1] for name, build in BOMBS.items()]
    syntaxes = {str(read_file_meta_info(file).TransferSyntaxUID) for file in files}
    plain = {ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian}
    assert syntaxes | plain == set(TRANSFER_SYNTAXES)


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
