"""What a folder holds to send: looked at, not decoded."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    MRImageStorage,
)

from services.dimse.files import UnsendableError, find_instances, look_at, look_through
from services.listener.door.part10 import META_BYTES, FileMeta, compose
from tests.builders.senders import written
from tests.builders.series import sound_series
from tests.builders.stow import data_set_of


def test_every_syntax_is_found_with_its_uids_and_the_place_of_its_data_set(tmp_path: Path) -> None:
    (source, *_) = sound_series(tmp_path / "series")
    for syntax in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ):
        data = pydicom.dcmread(source)
        data.file_meta.TransferSyntaxUID = syntax
        file = tmp_path / f"{syntax}.dcm"
        pydicom.dcmwrite(
            file, data, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
        )
        found = look_at(file)
        assert found.transfer_syntax_uid == syntax
        assert (found.sop_class_uid, found.sop_instance_uid) == (
            MRImageStorage,
            data.SOPInstanceUID,
        )
        assert found.study_uid == data.StudyInstanceUID
        content = file.read_bytes()
        assert found.data_bytes == len(content) - found.data_set_at
        assert content[found.data_set_at :] == data_set_of(content)


def test_behind_our_own_head_the_data_set_begins_whatever_it_says_of_itself(
    tmp_path: Path,
) -> None:
    """Some senders leave elements of group 0002 in the data set; they are kept as they came."""
    (source, *_) = sound_series(tmp_path / "series")
    own = struct.pack("<HH2sH", 2, 0x0010, b"UI", 18) + b"1.2.840.10008.1.2\0"
    data = own + data_set_of(source.read_bytes())
    meta = FileMeta(str(MRImageStorage), "1.2.3", str(ExplicitVRLittleEndian), "CT1")
    file = tmp_path / "kept.dcm"
    file.write_bytes(compose(meta, len(data), 1) + data)
    found = look_at(file)
    assert (found.data_set_at, found.data_bytes) == (META_BYTES, len(data))
    assert found.transfer_syntax_uid == ExplicitVRLittleEndian
    assert found.sop_instance_uid == pydicom.dcmread(source).SOPInstanceUID


def test_a_wrong_group_length_does_not_move_the_data_set(tmp_path: Path) -> None:
    (source, *_) = sound_series(tmp_path / "series")
    content = bytearray(source.read_bytes())
    content[140:144] = struct.pack("<I", 12)
    file = tmp_path / "wrong.dcm"
    file.write_bytes(content)
    assert look_at(file).data_set_at == look_at(source).data_set_at


def test_what_is_no_dicom_is_left_out_and_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    (tmp_path / "dicom" / "notes.txt").write_text("not DICOM")
    (tmp_path / "dicom" / "empty").write_bytes(b"")
    nameless = pydicom.dcmread(files[0])
    del nameless.SOPInstanceUID
    nameless.file_meta.MediaStorageSOPInstanceUID = UID("")
    bad = tmp_path / "dicom" / "nameless.dcm"
    pydicom.dcmwrite(bad, nameless)
    directory = pydicom.dcmread(files[0])
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    pydicom.dcmwrite(tmp_path / "dicom" / "DICOMDIR", directory)
    found = look_through(tmp_path / "dicom")
    assert [each.file for each in found.instances] == sorted(files)
    assert found.unsendable == ((bad, "it has no SOP Instance UID"),)
    assert {file.name for file in found.others} == {"notes.txt", "empty", "DICOMDIR"}
    assert find_instances(files[0]) == [look_at(files[0])]


def test_a_head_without_a_data_set_is_named(tmp_path: Path) -> None:
    (source, *_) = sound_series(tmp_path / "series")
    file = tmp_path / "head.dcm"
    file.write_bytes(source.read_bytes()[: look_at(source).data_set_at])
    with pytest.raises(UnsendableError, match="no data set"):
        look_at(file)


def test_uids_behind_large_elements_are_found(tmp_path: Path) -> None:
    data = pydicom.dcmread(sound_series(tmp_path / "series")[0])
    data.add_new(0x00091010, "OB", bytes(300_000))
    assert look_at(written(data, tmp_path / "large.dcm")).study_uid == data.StudyInstanceUID


def test_the_data_sets_uids_are_sent_and_the_heads_where_it_has_none(tmp_path: Path) -> None:
    first, second, *_ = sound_series(tmp_path / "series")
    data = pydicom.dcmread(first)
    data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    pydicom.dcmwrite(first, data)
    assert look_at(first).sop_instance_uid == data.SOPInstanceUID
    data = pydicom.dcmread(second)
    uid = data.SOPInstanceUID
    del data.SOPInstanceUID
    pydicom.dcmwrite(second, data)
    assert look_at(second).sop_instance_uid == uid


def test_files_come_in_the_order_of_their_paths_whatever_lies_between_them(tmp_path: Path) -> None:
    (first,) = sound_series(tmp_path / "made")[:1]
    names = ["b.dcm", "a/2.dcm", "a/10.dcm", "a-b/1.dcm", "a.dcm", "c/d/e.dcm"]
    for name in names:
        copied = tmp_path / "study" / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(first.read_bytes())
    (tmp_path / "study" / "again").symlink_to(tmp_path / "study" / "a")
    (tmp_path / "study" / "nothing").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "study" / "pipe")
    found = look_through(tmp_path / "study")
    assert [i.file for i in found.instances] == sorted(tmp_path / "study" / name for name in names)
    assert (found.unsendable, found.others) == ((), ())


def test_a_folder_that_cannot_be_read_is_named_and_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sound_series(tmp_path / "study" / "a")
    (locked := tmp_path / "study" / "b").mkdir()
    scandir = os.scandir

    def closed(path: str) -> Any:  # who runs the tests may be allowed everything
        if path == str(locked):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = look_through(tmp_path / "study")
    assert [each.file for each in found.instances] == sorted(files)
    assert found.unsendable == ((locked, "it cannot be read: Permission denied"),)


def test_what_is_neither_a_folder_nor_a_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in (("pipe", "Not a directory"), ("gone", "No such file or directory")):
        found = look_through(tmp_path / path)
        assert found.unsendable == ((tmp_path / path, f"it cannot be read: {why}"),)
