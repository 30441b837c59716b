"""Whether images are of one patient: what is compared is text, not bytes."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.tag import Tag

from services.common.fates import Verdict
from services.reporting.source.patients import differing_patients
from tests.builders.malformed import malformed_values
from tests.builders.reporting import blobs, series_in, workplace
from tests.builders.series import edit, raw

NAME = 0x00100010
SHAPE = (7, 12, 10)


def images(folder: Path, *named: tuple[str | None, bytes]) -> list[Path]:
    """Images, each with its character set and the bytes of its patient's name."""
    files = series_in(folder, "axial", SHAPE)[: len(named)]
    for file, (character_set, name) in zip(files, named, strict=True):
        edit(file, SpecificCharacterSet=character_set)
        _write_name(file, name)
    return files


def _write_name(file: Path, name: bytes) -> None:
    """Puts a name's bytes into a file as they are, whatever the character set."""
    data = pydicom.dcmread(file)
    data[Tag(NAME)] = raw(NAME, "LT", name + b" " * (len(name) % 2))
    data.save_as(file)
    content = file.read_bytes()
    at = content.index(b"\x10\x00\x10\x00LT")
    file.write_bytes(content[: at + 4] + b"PN" + content[at + 6 :])


@malformed_values
@pytest.mark.parametrize(
    "named",
    [
        [("ISO_IR 100", "Müller^Jörg".encode("latin-1")), ("ISO_IR 192", "Müller^Jörg".encode())],
        [("ISO_IR 192", "Müller^Jörg".encode()), ("ISO_IR 192", b"Mu\xcc\x88ller^Jo\xcc\x88rg")],
        [("ISO_IR 144", "Иванов^Иван".encode("iso8859-5")), ("ISO_IR 192", "Иванов^Иван".encode())],
        [
            ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
            ("ISO_IR 192", "Yamada^Tarou=山田^太郎".encode()),
        ],
        [
            (
                "ISO 2022 IR 6\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
            ),
            ("ISO_IR 192", "Hong^Gildong=洪^吉洞".encode()),
        ],
        [("GB18030", "王^小东".encode("gb18030")), ("ISO_IR 192", "王^小东".encode())],
        [(None, "Müller^Jörg".encode("latin-1")), ("ISO_IR 192", "Müller^Jörg".encode())],
        [(None, "Müller^Jörg".encode()), ("ISO_IR 100", "Müller^Jörg".encode("latin-1"))],
        [("ISO_IR 192", "Müller^Jörg".encode("latin-1")), ("ISO_IR 192", "Müller^Jörg".encode())],
        [("ISO_IR 100", b"Doe^John"), ("ISO_IR 100", b"Doe ^John^^^")],
        [("ISO_IR 192", "Yamada^Tarou=山田^太郎".encode()), ("ISO_IR 192", b"Yamada^Tarou")],
        [("ISO_IR 100", b""), ("ISO_IR 100", b"Doe^John"), ("ISO_IR 100", b"^^")],
        [("NO_SUCH_SET", b"Doe^John"), ("ISO_IR 100", b"Doe^John")],
    ],
    ids=[
        "latin-1, utf-8",
        "composed, decomposed",
        "cyrillic",
        "japanese",
        "korean",
        "chinese",
        "undeclared latin-1",
        "undeclared utf-8",
        "declared wrongly",
        "spaces, empty components",
        "without ideographs",
        "absent",
        "unknown set",
    ],
)
def test_one_name_in_whatever_character_set_is_one_patient(
    tmp_path: Path, named: list[tuple[str | None, bytes]]
) -> None:
    assert differing_patients(images(tmp_path, *named)) == []


@pytest.mark.parametrize(
    "named",
    [
        [("ISO_IR 100", "Müller^Jörg".encode("latin-1")), ("ISO_IR 192", "Möller^Jörg".encode())],
        [("ISO_IR 100", b"Doe^John"), ("ISO_IR 100", b"Doe^Jane")],
        # The same bytes in two character sets are two names.
        [("ISO_IR 100", b"M\xfcller^A"), ("ISO_IR 144", b"M\xfcller^A")],
        [("ISO_IR 192", "Yamada=山田".encode()), ("ISO_IR 192", "Yamada=山口".encode())],
    ],
)
def test_another_name_is_another_patient(
    tmp_path: Path, named: list[tuple[str | None, bytes]]
) -> None:
    assert differing_patients(images(tmp_path, *named)) == ["the patient's name"]


def test_each_attribute_that_differs_is_named(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial", SHAPE)
    edit(files[1], PatientBirthDate="19500102")
    assert differing_patients(files) == ["the patient's date of birth"]
    edit(files[2], PatientID="OTHER")
    assert differing_patients(files) == ["the patient's date of birth", "the patient's ID"]


@malformed_values
def test_a_date_in_the_older_form_is_the_same(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial", SHAPE)
    date = pydicom.dcmread(files[0]).PatientBirthDate
    edit(files[1], PatientBirthDate=f"{date[:4]}.{date[4:6]}.{date[6:]}")
    assert differing_patients(files) == []


def test_a_name_in_two_character_sets_gives_a_result(tmp_path: Path) -> None:
    files = series_in(tmp_path / "series", "axial", SHAPE)
    for number, file in enumerate(files):
        first = number < 3
        edit(file, SpecificCharacterSet="ISO_IR 100" if first else "ISO_IR 192")
        _write_name(file, "Müller^Jörg".encode("latin-1" if first else "utf-8"))
    place = workplace(tmp_path, files)
    made = place.make(place.job(blobs(SHAPE)), check_with_dciodvfy=False)
    assert made.withholding is None
    assert len(made.results) == 2
    for result in made.results:
        with place.store.local([result.store_key]) as found:
            assert str(pydicom.dcmread(found[result.store_key]).PatientName) == "Müller^Jörg"
    place.engine.dispose()


def test_what_differs_is_told_without_its_value(tmp_path: Path) -> None:
    files = series_in(tmp_path / "series", "axial", SHAPE)
    edit(files[4], PatientName="Okapi^Zebra", PatientID="OKAPI-18")
    place = workplace(tmp_path, files)
    made = place.make(place.job(blobs(SHAPE)))
    assert made.withholding is not None
    sentence = Verdict(made.withholding.reason, made.withholding.values).sentence
    assert "they differ in the patient's ID and the patient's name" in sentence
    assert "kapi" not in sentence.lower()
    place.engine.dispose()
