"""The fuzzers' corpus, once: every input is answered by the rules, and good traffic is served."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from services.dimse.pdu import A_ABORT, A_ASSOCIATE_AC, A_RELEASE_RP, P_DATA_TF, PDU_HEAD
from tests.fuzz.dicom_door import SYNTAXES, Door, open_door, parse_everything

CORPUS = Path(__file__).parents[3] / "fuzz" / "corpus" / "pdu"
REQUEST = (CORPUS / "request").read_bytes()[1:]


@pytest.fixture(scope="module")
def door() -> Generator[Door]:
    with open_door() as opened:
        yield opened


def kinds(answer: bytes) -> list[int]:
    found: list[int] = []
    at = 0
    while at < len(answer):
        kind, length = PDU_HEAD.unpack_from(answer, at)
        found.append(kind)
        at += PDU_HEAD.size + length
    return found


@pytest.mark.parametrize("seed", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_every_input_is_answered_by_the_rules(seed: Path, door: Door) -> None:
    data = seed.read_bytes()
    parse_everything(data[1:])
    door.serve(data[1:])
    door.serve(REQUEST + data[1:])


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_instance_in_fragments_is_stored_in_every_syntax(syntax: str, door: Door) -> None:
    answer = door.serve(REQUEST + (CORPUS / f"store_{syntax}").read_bytes()[1:])
    assert kinds(answer) == [A_ASSOCIATE_AC, P_DATA_TF, A_RELEASE_RP]
    assert len(door.stored) == 1


@pytest.mark.parametrize("seed", ["http", "huge_pdu", "data_without_command"])
def test_what_is_no_dicom_gets_an_abort(seed: str, door: Door) -> None:
    data = (CORPUS / seed).read_bytes()
    answer = door.serve((REQUEST if data[0] == 2 else b"") + data[1:])
    assert kinds(answer)[-1] == A_ABORT
    assert door.stored == set()
