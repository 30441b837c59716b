"""What a refusal says of a series: images by their numbers, attributes in words, codes in any case.

The series are real files with one fault each.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID

import services
from services.common.fates import REASONS, Refusal, Verdict, read_verdict
from services.common.headers import InstanceHeader, codes_of
from services.common.sentences import keyword_in_words, keywords_value
from services.imaging import GeometryLimits, SeriesGeometry, examine_series, split_volumes
from services.imaging.frames import UnplacedFrames
from services.imaging.kinds import calls_itself_localizer
from services.imaging.opening import open_images
from services.imaging.pixels import PixelsError, pixels_of
from services.imaging.telling import TELLING
from services.imaging.tiles import numbers_of
from tests.builders.broken_series import BROKEN, Builder, half_of_a_second_volume
from tests.builders.mosaics import sound_mosaic
from tests.builders.series import as_sent, edit, headers_of, small_volume, sound_series

LIMITS = GeometryLimits("a model")
# Words of a single part ("Rows") are no keyword to a reader; those of several are.
KEYWORDS = {row[4] for row in DicomDictionary.values() if re.search(r"^[A-Z].*[a-z][A-Z]", row[4])}
# Values that tell which images are meant.
OF_IMAGES = {"instance", "images", "odd", "before", "after"}
FAULTS = [
    pytest.param(builder, id=builder.__name__)
    for builders in BROKEN.values()
    for builder in builders
]


def refused(headers: list[InstanceHeader], limits: GeometryLimits = LIMITS) -> Refusal:
    answer = examine_series(headers, limits)
    assert isinstance(answer, Refusal)
    return answer


def keywords_in(text: str) -> set[str]:
    return KEYWORDS & set(re.findall(r"\w+", text))


@pytest.mark.parametrize("builder", FAULTS)
def test_a_refusal_shows_its_images_and_no_keyword(builder: Builder, tmp_path: Path) -> None:
    refusal = refused(headers_of(builder(tmp_path)))
    for name in OF_IMAGES & refusal.values.keys():
        assert str(refusal.values[name]) in refusal.sentence, name
    assert not keywords_in(refusal.sentence + refusal.remedy)


def _made_in_services() -> Iterator[tuple[str, set[str]]]:
    """Reason and names of values, wherever a verdict is made of literals."""
    for file in sorted(Path(services.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            if call.func.id not in ("Refusal", "Verdict") or not call.args:
                continue
            reason = call.args[0]
            if not isinstance(reason, ast.Constant) or len(call.args) < 2:
                continue
            given = [call.args[1]]
            if isinstance(given[0], ast.Name):
                named = given[0].id
                given = [
                    each.value
                    for each in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                    if isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None
                    for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
                    if isinstance(target, ast.Name) and target.id == named
                    if abs(each.lineno - call.lineno) < 10
                ]
            keys = {
                str(key.value)
                for each in given
                if isinstance(each, ast.Dict)
                for key in each.keys
                if isinstance(key, ast.Constant)
            }
            yield str(reason.value), keys


def test_every_reason_shows_the_images_that_its_verdicts_know() -> None:
    made = list(_made_in_services())
    assert len({reason for reason, _ in made}) > 25
    for reason, names in made:
        shown = {name for _, name, _, _ in string.Formatter().parse(REASONS[reason].sentence)}
        assert names & OF_IMAGES <= shown, reason


def _lut(data: pydicom.Dataset) -> None:
    data.add_new("ModalityLUTSequence", "SQ", [pydicom.Dataset()])


def _pepolar(data: pydicom.Dataset) -> None:
    data.add_new(0x00190010, "LO", "GEMS_ACQU_01")
    data.add_new(0x0019109C, "LO", "research/epi_pepolar")
    data.add_new(0x001910B3, "SS", 1)


def _set(**attributes: object) -> Callable[[pydicom.Dataset], None]:
    def change(data: pydicom.Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(data, keyword, value)

    return change


def _without(keyword: str) -> Callable[[pydicom.Dataset], None]:
    return lambda data: delattr(data, keyword)


ONE_OF_SEVEN = {
    "missing_frame_of_reference": _without("FrameOfReferenceUID"),
    "mixed_frame_of_reference": _set(FrameOfReferenceUID="1.2.3"),
    "modality_lut": _lut,
    "reversed_rows": _pepolar,
    "colour_image": _set(PhotometricInterpretation="PALETTE COLOR"),
    "mixed_orientations": _set(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
    "mixed_matrix": _set(Rows=8),
    "mixed_pixel_spacing": _set(PixelSpacing=[7, 7]),
    "several_volumes": _set(EchoTime="99"),
    "missing_geometry": _without("ImagePositionPatient"),
    "single component": _set(ImageType=["ORIGINAL", "PRIMARY", "P"]),
}


@pytest.mark.parametrize("reason", ONE_OF_SEVEN)
def test_one_odd_image_of_seven_is_named(reason: str, tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume((7, 4, 5)))
    for file in files:
        edit(file, EchoTime="3", ImageType=["ORIGINAL", "PRIMARY", "M"])
    data = pydicom.dcmread(files[3])
    ONE_OF_SEVEN[reason](data)
    data.save_as(files[3])
    refusal = refused(headers_of(files))
    assert refusal.reason == ("several_volumes" if reason == "single component" else reason)
    assert re.search(r"\bimage 4\b", refusal.sentence, re.IGNORECASE), refusal.sentence


def test_every_image_without_a_place_is_named(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume((7, 4, 5)))
    said = "Image {} does not say where it lies in the patient (image position patient is absent"
    for named, ending in (
        ((4, 6), "; nor does image 6."),
        ((2, 4, 6), "; nor do images 4 and 6."),
        (range(1, 8), "; nor does any other image of the series."),
    ):
        for number in named:
            edit(files[number - 1], ImagePositionPatient=[])
        sentence = refused(headers_of(files)).sentence
        assert sentence.lower().startswith(said.format(min(named)).lower())
        assert sentence.endswith(ending)


def test_the_widest_of_uneven_gaps_is_named(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume((7, 4, 5)))
    for number, file in enumerate(files):
        x, y, _ = pydicom.dcmread(file).ImagePositionPatient
        edit(file, ImagePositionPatient=[x, y, number * 2.0 + (0.737 if number > 3 else 0)])
    refusal = refused(headers_of(files))
    assert refusal.reason == "uneven_spacing"
    assert "mm, the widest gap between images 4 and 5." in refusal.sentence


def test_images_that_share_places_with_a_part_of_a_volume_are_named(tmp_path: Path) -> None:
    files = half_of_a_second_volume(tmp_path)
    refusal = refused(headers_of(files))
    assert refusal.reason == "incomplete_volume"
    assert re.search(r": images \d+, .* share their positions\.$", refusal.sentence)


def test_images_at_one_place_are_named(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume((7, 4, 5)))
    position = pydicom.dcmread(files[2]).ImagePositionPatient
    edit(files[5], ImagePositionPatient=position)
    assert refused(headers_of(files)).sentence.startswith("Images 3 and 6 of this series lie at")


@pytest.mark.parametrize("private", [False, True], ids=["plain", "private b-value"])
def test_of_several_objects_the_one_that_cannot_be_opened_is_named(
    private: bool, tmp_path: Path
) -> None:
    files = [
        sound_mosaic(tmp_path / str(n), SOPInstanceUID=f"1.2.{n}", InstanceNumber=n) for n in (1, 2)
    ]
    for file in files if private else ():
        # Read with its vendor's b-value a header is another object.
        data = pydicom.dcmread(file)
        data.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        data.add_new(0x0019100C, "IS", "1000")
        data.save_as(file)
    headers = headers_of(files)
    edit(files[1], SpacingBetweenSlices=None)
    broken = headers_of(files)
    uids = [header.sop_instance_uid for header in broken]
    answer = open_images(broken, lambda header: files[uids.index(header.sop_instance_uid)])
    assert isinstance(answer, Refusal)
    assert "image 2" in answer.sentence
    assert "spacing between slices is absent or unreadable" in answer.sentence
    assert not keywords_in(answer.sentence)
    alone = open_images(broken[1:], lambda _: files[1])
    assert isinstance(alone, Refusal)
    assert "image" not in alone.sentence.rpartition("told:")[2]
    assert not isinstance(open_images(headers[:1], lambda _: files[0]), Refusal)


def test_a_header_that_raises_is_told_without_the_exceptions_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(_header: InstanceHeader, _file: Path) -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr("services.imaging.opening._READERS", {"MOSAIC": raising})
    file = sound_mosaic(tmp_path)
    answer = open_images(headers_of([file]), lambda _: file)
    assert isinstance(answer, Refusal)
    assert answer.values["problem"] == "its header is damaged"


@pytest.mark.parametrize("keywords", [(one,) for one in TELLING] + [TELLING[:2], TELLING[:3]])
def test_what_tells_volumes_apart_is_said_in_words(keywords: tuple[str, ...]) -> None:
    for reason in ("several_volumes", "several_volumes_fit"):
        values = {"volumes": 3, "fitting": 2, "model": "A model"}
        said = Verdict(reason, {**values, "attribute": keywords_value(keywords)}).sentence
        assert not keywords_in(said)
        assert all(keyword_in_words(keyword) in said for keyword in keywords)
        # As an earlier version wrote it down.
        before = read_verdict(reason, {**values, "attribute": " and ".join(keywords)})
        assert not keywords_in(before.sentence)


def test_a_split_series_says_in_words_what_tells_its_volumes_apart(tmp_path: Path) -> None:
    """From the files to the sentence: producers and words speak of the same thing."""
    files = sound_series(tmp_path, small_volume((4, 4, 5)))
    copies: list[Path] = []
    for number, file in enumerate(files):
        for echo in (1, 2):
            data = pydicom.dcmread(file)
            data.EchoTime, data.InstanceNumber = str(30 * echo), 2 * number + echo
            data.SOPInstanceUID = UID(f"{data.SOPInstanceUID[:40]}.{echo}")
            data.file_meta.MediaStorageSOPInstanceUID = UID(data.SOPInstanceUID)
            copies.append(tmp_path / f"echo-{number}-{echo}.dcm")
            data.save_as(copies[-1])
    split = split_volumes(headers_of(copies))
    assert split.told_by == ("EchoTime",)
    refusal = refused(headers_of(copies))
    assert "differ in echo time" in refusal.sentence


def test_every_keyword_of_the_dictionary_becomes_words() -> None:
    for keyword in KEYWORDS:
        values = {"instance": "3", "attribute": keyword}
        assert not keywords_in(Verdict("missing_geometry", values).sentence), keyword


@pytest.mark.parametrize(
    "keyword",
    [
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "RescaleSlope",
        "RescaleIntercept",
    ],
)
def test_a_number_that_is_none_is_said_in_words(keyword: str, tmp_path: Path) -> None:
    (header, *_) = headers_of(sound_series(tmp_path))
    broken = replace(header, attributes={**header.attributes, keyword: "abc"})
    with pytest.raises(PixelsError, match="is no number") as raised:
        pixels_of(broken)
    assert not keywords_in(str(raised.value))
    with pytest.raises(UnplacedFrames, match="absent or unreadable") as absent:
        numbers_of(broken, keyword, 1)
    assert not keywords_in(str(absent.value))


@pytest.mark.parametrize(
    ("limits", "accepts"),
    [
        (GeometryLimits("M", min_spacing_mm=3.0), "M accepts 3.0 mm or more"),
        (GeometryLimits("M", max_spacing_mm=0.5), "M accepts at most 0.5 mm"),
        (GeometryLimits("M", min_spacing_mm=3.0, max_spacing_mm=6.0), "M accepts 3.0 to 6.0 mm"),
    ],
)
def test_voxels_too_fine_and_too_coarse_are_told_apart(
    limits: GeometryLimits, accepts: str, tmp_path: Path
) -> None:
    headers = headers_of(sound_series(tmp_path))
    geometry = examine_series(headers, LIMITS)
    assert isinstance(geometry, SeriesGeometry)
    refusal = refused(headers, limits)
    sizes = (*geometry.pixel_spacing_mm, geometry.slice_spacing_mm)
    told = min(sizes) if limits.min_spacing_mm else max(sizes)
    assert refusal.values["spacing_mm"] == pytest.approx(told)
    assert accepts in refusal.sentence
    assert "inf" not in refusal.sentence + refusal.remedy
    assert "finer" not in refusal.remedy


def test_a_range_that_an_earlier_version_wrote_down_is_said_as_now() -> None:
    for maximum in ("no limit", None, float("inf")):
        values = {"model": "M", "spacing_mm": 0.2, "minimum_mm": 0.3, "maximum_mm": maximum}
        assert "accepts 0.3 mm or more" in read_verdict("spacing_out_of_range", values).sentence


def test_code_strings_are_compared_without_case_and_blanks(tmp_path: Path) -> None:
    assert codes_of(["m ", "Norm", ""]) == ("M", "NORM")
    assert codes_of("yes") == ("YES",)
    assert codes_of(None) == ()
    files = sound_series(tmp_path)

    def send(file: Path, **codes: str) -> None:
        for keyword, code in codes.items():
            tag = tag_for_keyword(keyword)
            assert tag is not None
            as_sent(file, tag, "CS", code.encode())

    for number, file in enumerate(files):
        magnitude = "m" if number < 2 else "M "
        send(
            file,
            PhotometricInterpretation="monochrome2 ",
            ImageType=f"ORIGINAL\\PRIMARY\\{magnitude}",
            ComplexImageComponent="magnitude " if number < 2 else "MAGNITUDE ",
        )
    assert isinstance(examine_series(headers_of(files), LIMITS), SeriesGeometry)
    send(files[0], ImageType="ORIGINAL\\PRIMARY\\p")
    assert refused(headers_of(files)).reason == "several_volumes"
    send(files[0], ImageType="ORIGINAL\\PRIMARY\\localizer ")
    assert calls_itself_localizer(headers_of(files)[0])
