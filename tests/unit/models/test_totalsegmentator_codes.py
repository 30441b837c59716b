"""The codes that TotalSegmentator's table gives its classes make segments, and sides agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import models.importing.totalsegmentator.importing as room
from models.importing.codes import read_known_codes
from models.importing.segments import Label, segments_of
from models.manifest.schema import Segment

FILE = Path(room.__file__).parent / "codes.yaml"
NAMES: tuple[str, ...] = tuple(yaml.safe_load(FILE.read_text()))
# The ends of each part of `total`, of which every class has a code.
ENDS = {
    *("spleen", "kidney_cyst_right", "sacrum", "vertebrae_C1", "heart", "iliac_vena_right"),
    *("humerus_left", "skull", "rib_left_1", "costal_cartilages"),
}


def test_every_class_of_the_table_makes_a_segment() -> None:
    codes = read_known_codes(FILE, NAMES)
    assert set(codes) == set(NAMES) >= ENDS
    labels = [Label(number, name) for number, name in enumerate(NAMES, 1)]
    segments = [Segment.model_validate(one) for one in segments_of(labels, codes)]
    assert len({segment.label for segment in segments}) == len(NAMES)


@pytest.mark.parametrize("left", [name for name in NAMES if "_left" in name])
def test_both_sides_are_the_same_structure(left: str) -> None:
    right = left.replace("_left", "_right")
    if right not in NAMES:
        assert left == "atrial_appendage_left"
        return
    codes = read_known_codes(FILE, (left, right))
    one, other = codes[left], codes[right]
    assert (one.category, one.region) == (other.category, other.region)
    # A chamber of the heart is a structure by its side; of all others the label tells the side.
    sides = one.type.meaning.startswith("Left") and other.type.meaning.startswith("Right")
    assert sides or one.type == other.type
    assert str(one.label).endswith("left")
    assert str(other.label).endswith("right")
