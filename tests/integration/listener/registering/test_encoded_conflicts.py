"""The same image in two transfer syntaxes, and an encoded image that was cut off, under one UID."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from sqlalchemy import Engine

from services.common.database import ConflictRow, InstanceRow, utc_now
from services.common.store import StudyStore
from services.listener.assembling.revisions import Trigger, freeze_revision
from services.listener.door.statuses import StoreStatus
from services.listener.keeping.resolving import Resolving
from services.listener.peers.presentation_contexts import TRANSFER_SYNTAXES
from tests.builders.reception import OfferedInstance, Reception, offer
from tests.builders.series import small_volume, sound_series
from tests.fuzz.make_object_corpus import ENCODED, LOSSY, object_in
from tests.integration.listener.registering.test_conflicts import rows

ENCAPSULATED = (RLELossless, *ENCODED)
LOSSLESS = tuple(UID(uid) for uid in TRANSFER_SYNTAXES if uid not in LOSSY)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (file,) = sound_series(tmp_path / "dicom", small_volume((1, 64, 64)))
    data = pydicom.dcmread(file)
    # So that an encoding has some thousand bytes, and one that loses changes some values.
    noise = np.random.default_rng(7).integers(0, 1 << 12, (64, 64), np.uint16)
    data.PixelData = noise.tobytes()
    data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 0
    data.save_as(file)
    return file


def encoded(image: Path, syntax: UID) -> OfferedInstance:
    """The image in a transfer syntax."""
    file = image.with_name(f"{syntax.keyword}.dcm")
    file.write_bytes(object_in(syntax, pydicom.dcmread(image)))
    return offer(file)


def cut(offered: OfferedInstance, count: int) -> OfferedInstance:
    """Without its last bytes."""
    return OfferedInstance(
        offered.sop_class_uid,
        offered.sop_instance_uid,
        offered.transfer_syntax_uid,
        offered.peer,
        offered.data[:-count],
    )


def receive(reception: Reception, *offered: OfferedInstance) -> None:
    for one in offered:
        assert reception.receive(one) is StoreStatus.SUCCESS


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(
    "first", [ExplicitVRLittleEndian, RLELossless], ids=lambda uid: uid.keyword
)
def test_the_same_image_in_another_transfer_syntax_is_one_image(
    lite_engine: Engine, lite_reception: Reception, image: Path, first: UID, syntax: UID
) -> None:
    receive(lite_reception, encoded(image, first), encoded(image, syntax))
    conflicts = rows(lite_engine)
    assert len(conflicts) == int(first != syntax)
    assert not any(row.among_own or "pixels" in row.differs for row in conflicts)


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda uid: uid.keyword)
def test_what_lost_something_by_its_encoding_is_another_image(
    lite_engine: Engine, lite_reception: Reception, image: Path, syntax: UID
) -> None:
    receive(lite_reception, encoded(image, ExplicitVRLittleEndian), encoded(image, syntax))
    (conflict,) = rows(lite_engine)
    assert conflict.among_own
    assert "pixels" in conflict.differs


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=lambda uid: uid.keyword)
def test_other_values_in_another_transfer_syntax_are_another_image(
    lite_engine: Engine, lite_reception: Reception, image: Path, syntax: UID
) -> None:
    first = encoded(image, ExplicitVRLittleEndian)
    data = pydicom.dcmread(image)
    data.PixelData = data.PixelData[2:] + data.PixelData[:2]
    data.save_as(image)
    receive(lite_reception, first, encoded(image, syntax))
    (conflict,) = rows(lite_engine)
    assert conflict.among_own
    assert "pixels" in conflict.differs


@pytest.mark.parametrize("lost", [2, 8, 1000])
@pytest.mark.parametrize("frozen", [False, True], ids=["under way", "frozen"])
@pytest.mark.parametrize(
    "syntax", [DeflatedExplicitVRLittleEndian, *ENCAPSULATED], ids=lambda uid: uid.keyword
)
def test_a_whole_encoded_image_takes_the_place_of_one_that_was_cut_off(
    lite_engine: Engine,
    store: StudyStore,
    lite_reception: Reception,
    image: Path,
    syntax: UID,
    frozen: bool,
    lost: int,
) -> None:
    whole = encoded(image, syntax)
    torn = cut(whole, lost)
    receive(lite_reception, torn)
    (instance,) = rows(lite_engine, InstanceRow)
    if frozen:
        freeze_revision(lite_engine, instance.study_uid, Trigger.TOLD, utc_now())
    for offered in (whole, torn, whole):  # the one that was cut off never takes the place back
        receive(lite_reception, offered)
        Resolving(lite_engine, store, lambda _: None).carry_out()
        (instance,) = rows(lite_engine, InstanceRow)
        assert store.read(instance.store_key).endswith(whole.data)
        assert instance.data_digest == whole.digest
    assert not any(row.among_own for row in rows(lite_engine, ConflictRow))
    following = freeze_revision(lite_engine, instance.study_uid, Trigger.TOLD, utc_now())
    assert following is not None  # the series is worked on anew, or for the first time


@pytest.mark.parametrize("plain", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_torn_image_is_no_version_of_another_one(
    lite_engine: Engine, lite_reception: Reception, image: Path, plain: UID
) -> None:
    whole = encoded(image, plain)
    other = cut(encoded(image, RLELossless), 1000)
    receive(lite_reception, whole, other)
    (conflict,) = rows(lite_engine)
    assert conflict.state == "open"  # the whole one stays
