"""Each fault gives its own reason, and the most telling one where there are several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.imaging import (
    GeometryLimits,
    ImagingError,
    SeriesGeometry,
    examine_series,
    is_localizer,
)
from tests.builders import broken_series
from tests.builders.broken_series import BROKEN, Builder
from tests.builders.series import AXIAL, affine_of, edit, headers_of, small_volume, sound_series

LIMITS = GeometryLimits("a model")
FAULTS = [
    pytest.param(reason, builder, id=builder.__name__)
    for reason, builders in BROKEN.items()
    for builder in builders
]


def refused(headers: list[InstanceHeader], limits: GeometryLimits = LIMITS) -> Refusal:
    answer = examine_series(headers, limits)
    assert isinstance(answer, Refusal)
    return answer


def passed(headers: list[InstanceHeader], limits: GeometryLimits = LIMITS) -> SeriesGeometry:
    answer = examine_series(headers, limits)
    assert isinstance(answer, SeriesGeometry), answer
    return answer


@pytest.mark.parametrize(("reason", "builder"), FAULTS)
def test_each_fault_gives_exactly_its_reason(reason: str, builder: Builder, tmp_path: Path) -> None:
    refusal = refused(headers_of(builder(tmp_path)))
    assert refusal.reason == reason
    assert "{" not in refusal.sentence + refusal.remedy


@pytest.mark.parametrize(("reason", "builder"), FAULTS)
def test_reason_does_not_depend_on_the_order_of_arrival(
    reason: str, builder: Builder, tmp_path: Path
) -> None:
    headers = headers_of(builder(tmp_path))
    orders = np.random.default_rng(3).permuted(np.tile(np.arange(len(headers)), (5, 1)), axis=1)
    assert {refused([headers[n] for n in order]).reason for order in orders} == {reason}


def test_headers_give_the_same_answer_after_a_stay_in_the_database(tmp_path: Path) -> None:
    headers = headers_of(sound_series(tmp_path))
    kept = [InstanceHeader.from_json(header.as_json()) for header in headers]
    assert np.array_equal(passed(kept).affine, passed(headers).affine)


def test_missing_slice_names_its_neighbours_and_distances(tmp_path: Path) -> None:
    refusal = refused(headers_of(broken_series.missing_slice(tmp_path)))
    assert refusal.values == {"before": "3", "after": "5", "gap_mm": 5.0, "spacing_mm": 2.5}


def test_two_missing_slices_are_missing_not_uneven(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume((12, 4, 5)))
    assert refused(headers_of(files[:3] + files[5:])).reason == "missing_slice"


def test_tilt_is_told_before_the_uneven_spacing_it_hides(tmp_path: Path) -> None:
    files = broken_series.gantry_tilt(tmp_path)
    refusal = refused(headers_of(files[:3] + files[4:]))
    assert refusal.reason == "gantry_tilt"
    assert refusal.values["tilt_deg"] == pytest.approx(15)


def oblique(folder: Path, digits: int, slices: int = 40) -> list[Path]:
    """A sound oblique series, a millimetre apart, whose positions are rounded."""
    along = np.array([0.28, 0.0, 0.96])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([[0.96, 0.0, -0.28], [0.0, 1.0, 0.0], along], axis=1)
    files = sound_series(folder, small_volume((slices, 4, 5), affine))
    for k, file in enumerate(files):
        edit(file, ImagePositionPatient=[f"{round(x, digits):.4f}" for x in k * along])
    return files


def slightly_off(folder: Path) -> list[Path]:
    """A few slices along 0.03 mm for each slice, rounded."""
    files = stack_at(folder, 4.0, 4.0, 4.0, 4.0)
    for file, across in zip(files, ["0", "0", "0.1", "0.1", "0.1"], strict=True):
        position = pydicom.dcmread(file).ImagePositionPatient
        edit(file, ImagePositionPatient=[across, *position[1:]])
    return files


@pytest.mark.parametrize(
    ("reason", "build"),
    [
        ("shifted_planes", lambda folder: oblique(folder, 1)),
        ("gantry_tilt", slightly_off),
        ("uneven_spacing", lambda folder: stack_at(folder, *[1.2, 1.3] * 8)),  # 1.25 mm
    ],
)
def test_positions_that_are_rounded_coarsely_are_told_as_the_reason(
    reason: str, build: Builder, tmp_path: Path
) -> None:
    refusal = refused(headers_of(build(tmp_path)))
    assert refusal.reason == reason
    assert "their positions are told to 0.1 mm only" in refusal.sentence
    assert "differ from the others" not in refusal.sentence


def test_what_rounding_cannot_explain_is_not_laid_on_it(tmp_path: Path) -> None:
    passed(headers_of(oblique(tmp_path / "fine", 3)))
    files = oblique(tmp_path, 3)
    edit(files[3], ImagePositionPatient=["1.84", "0", "2.88"])
    refusal = refused(headers_of(files))
    assert (refusal.reason, refusal.values["rounded"]) == ("shifted_planes", "")
    assert "image 4 differs from the others" in refusal.sentence


def test_accepted_tilt_gives_a_sheared_affine_through_every_position(tmp_path: Path) -> None:
    headers = headers_of(broken_series.gantry_tilt(tmp_path))
    geometry = passed(headers, GeometryLimits("a model", accepts_gantry_tilt=True))
    for k, plane in enumerate(geometry.planes):
        assert geometry.affine @ [0, 0, k, 1] == pytest.approx([*plane.position_mm, 1])
    assert geometry.slice_spacing_mm == pytest.approx(2.5 * np.cos(np.radians(15)))


def test_accepted_uneven_spacing_keeps_every_plane_where_it_is(tmp_path: Path) -> None:
    headers = headers_of(broken_series.uneven_spacing(tmp_path))
    geometry = passed(headers, GeometryLimits("a model", accepts_uneven_spacing=True))
    assert not geometry.evenly_spaced
    assert np.diff(geometry.corners()[:, 0, 2]) == pytest.approx([2.5, 2.5, 2.5, 4.0, 2.5, 2.5])


def test_a_missing_slice_is_refused_even_where_uneven_spacing_is_accepted(tmp_path: Path) -> None:
    headers = headers_of(broken_series.missing_slice(tmp_path))
    limits = GeometryLimits("a model", accepts_uneven_spacing=True)
    assert refused(headers, limits).reason == "missing_slice"


def stack_at(folder: Path, *gaps_mm: float) -> list[Path]:
    """A series whose slices are that far apart."""
    files = sound_series(folder, small_volume((len(gaps_mm) + 1, 4, 5)))
    for file, height in zip(files, np.cumsum([0.0, *gaps_mm]), strict=True):
        edit(file, ImagePositionPatient=["0", "0", f"{height:.4f}"])
    return files


UNEVEN = GeometryLimits("a model", accepts_uneven_spacing=True)


@pytest.mark.parametrize(
    "gaps_mm",
    [[5] * 10 + [10] * 8, [10] * 8 + [5] * 10, [5] * 9 + [10] * 9, [2.5] * 5 + [10] * 2],
    ids=str,
)
def test_two_ranges_are_uneven_where_that_is_accepted(gaps_mm: list[float], tmp_path: Path) -> None:
    headers = headers_of(stack_at(tmp_path, *gaps_mm))
    assert not passed(headers, UNEVEN).evenly_spaced
    assert refused(headers).reason == "missing_slice"


@pytest.mark.parametrize(
    "gaps_mm",
    [
        [5] * 9 + [10],  # one lost before the last
        [5] * 4 + [10, 10] + [5] * 4,
        [10] + [5] * 8 + [10],
        [5] * 9 + [10, 15],
    ],
    ids=str,
)
def test_wide_gaps_that_are_no_second_range_are_missing_slices(
    gaps_mm: list[float], tmp_path: Path
) -> None:
    assert refused(headers_of(stack_at(tmp_path, *gaps_mm)), UNEVEN).reason == "missing_slice"


def test_a_displaced_slice_does_not_hide_a_hole(tmp_path: Path) -> None:
    headers = headers_of(stack_at(tmp_path, *[3] * 8, 3.4, 2.6, 60, *[3] * 8))
    limits = GeometryLimits("a model", max_spacing_mm=10, accepts_uneven_spacing=True)
    refusal = refused(headers, limits)
    assert (refusal.reason, refusal.values["spacing_mm"]) == ("spacing_out_of_range", 60)


@pytest.mark.parametrize("hole_mm", [600, 1e7])
def test_a_hole_that_would_fill_most_of_the_grid_is_uneven(hole_mm: float, tmp_path: Path) -> None:
    headers = headers_of(stack_at(tmp_path, *[3] * 18, 2.8, hole_mm))
    refusal = refused(headers, UNEVEN)
    assert (refusal.reason, refusal.values["most_mm"]) == ("uneven_spacing", hole_mm)


def test_two_ranges_that_overlap_where_they_meet_are_uneven(tmp_path: Path) -> None:
    headers = headers_of(stack_at(tmp_path, *[4] * 13, 1.08, *[7] * 13))
    assert not passed(headers, UNEVEN).evenly_spaced


@pytest.mark.parametrize(("tilt_deg", "accepted"), [(30, True), (44, True), (46, False)])
def test_a_tilt_is_accepted_up_to_what_a_stack_can_be(
    tilt_deg: float, accepted: bool, tmp_path: Path
) -> None:
    files = sound_series(tmp_path)
    for k, file in enumerate(files):
        across = 2.5 * k * np.tan(np.radians(tilt_deg))
        edit(file, ImagePositionPatient=["0", f"{across:.6f}", f"{2.5 * k}"])
    answer = examine_series(headers_of(files), GeometryLimits("m", accepts_gantry_tilt=True))
    assert isinstance(answer, SeriesGeometry) == accepted
    if isinstance(answer, Refusal):
        assert answer.reason == "gantry_tilt"


def turned(files: list[Path], *angles_deg: float) -> list[InstanceHeader]:
    """Headers of images that are turned within their planes."""
    for file, angle in zip(files, np.radians(angles_deg), strict=True):
        cosines = [np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0]
        edit(file, ImageOrientationPatient=[f"{each:.9f}" for each in cosines])
    return headers_of(files)


@pytest.mark.parametrize(("most_deg", "sound"), [(0.045, True), (0.09, False)])
def test_orientations_are_judged_alike_in_every_order(
    most_deg: float, sound: bool, tmp_path: Path
) -> None:
    headers = turned(sound_series(tmp_path), *np.linspace(0, most_deg, 7))
    answers = [examine_series(headers[n:] + headers[:n], LIMITS) for n in range(7)]
    assert {isinstance(answer, SeriesGeometry) for answer in answers} == {sound}
    affines = {answer.affine.tobytes() for answer in answers if isinstance(answer, SeriesGeometry)}
    assert len(affines) == sound


@pytest.mark.parametrize("angles_deg", [[0, 180] * 3, [0, 0, 0, 180, 180, 180], [0, 120, 240] * 2])
def test_directions_that_cancel_are_not_parallel(angles_deg: list[float], tmp_path: Path) -> None:
    headers = turned(sound_series(tmp_path, small_volume((6, 12, 10))), *angles_deg)
    assert refused(headers).reason == "mixed_orientations"


@pytest.mark.parametrize(
    ("builder", "attribute"),
    [
        (broken_series.interleaved_echoes, "EchoTime"),
        (broken_series.adjoining_components, "ImageType"),
    ],
)
def test_images_of_two_kinds_beside_each_other_are_no_volume(
    builder: Builder, attribute: str, tmp_path: Path
) -> None:
    refusal = refused(headers_of(builder(tmp_path)))
    assert (refusal.values["volumes"], refusal.values["attribute"]) == (2, attribute)


@pytest.mark.parametrize(
    ("attribute", "values"),
    [
        ("EchoTime", ["4.6", "4.60001", None, "4.61"]),
        ("EchoTime", ["102", "102.4", "102.9", "103.3"]),
        ("DiffusionBValue", [1000.0, 1002.5, 998.0, 1000.0]),
        ("AcquisitionNumber", [1, 2, 1, 2]),
        ("AcquisitionTime", ["120000", "120130", "120000", "120130"]),
        ("ImageType", [["ORIGINAL", "PRIMARY", "M", *more] for more in (["ND"], [], ["X"], ["M"])]),
    ],
)
def test_what_varies_within_a_sound_volume_is_no_difference(
    attribute: str, values: list[object], tmp_path: Path
) -> None:
    files = sound_series(tmp_path, small_volume((4, 12, 10)))
    for file, value in zip(files, values, strict=True):
        edit(file, **{attribute: value})
    passed(headers_of(files))


def test_several_volumes_say_how_many_and_what_tells_them_apart(tmp_path: Path) -> None:
    echoes = refused(headers_of(broken_series.several_echoes(tmp_path / "echoes")))
    assert (echoes.values["volumes"], echoes.values["attribute"]) == (2, "EchoTime")
    times = refused(headers_of(broken_series.incomplete_time_series(tmp_path / "times")))
    assert times.values == {"volumes": 3, "attribute": "nothing but their number"}


def test_spacing_comes_from_positions_never_from_slice_thickness(tmp_path: Path) -> None:
    files = [edit(f, SliceThickness=9, SpacingBetweenSlices=9) for f in sound_series(tmp_path)]
    assert passed(headers_of(files)).slice_spacing_mm == pytest.approx(2.5)


def test_positions_rounded_to_two_decimals_are_still_even(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume((9, 4, 5), affine_of(AXIAL, (1, 1, 0.625))))
    for file, header in zip(files, headers_of(files), strict=True):
        position = header.numbers("ImagePositionPatient") or ()
        edit(file, ImagePositionPatient=[f"{number:.2f}" for number in position])
    assert passed(headers_of(files)).slice_spacing_mm == pytest.approx(0.625, abs=2e-3)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (GeometryLimits("m", min_slices=8), "too_few_slices"),
        (GeometryLimits("m", max_slices=6), "too_many_slices"),
        (GeometryLimits("m", max_spacing_mm=2.4), "spacing_out_of_range"),
        (GeometryLimits("m", min_spacing_mm=0.91), "spacing_out_of_range"),
        (GeometryLimits("m", min_extent_mm=9.1), "extent_too_small"),
    ],
)
def test_a_sound_volume_outside_the_models_limits_says_which(
    limits: GeometryLimits, reason: str, tmp_path: Path
) -> None:
    assert refused(headers_of(sound_series(tmp_path)), limits).reason == reason


def test_a_sound_volume_at_the_models_limits_passes(tmp_path: Path) -> None:
    limits = GeometryLimits("m", 7, 7, 0.9, 2.5, min_extent_mm=9.0)
    assert passed(headers_of(sound_series(tmp_path)), limits).shape == (7, 12, 10)


def test_one_scout_among_images_makes_no_localizer(tmp_path: Path) -> None:
    files = sound_series(tmp_path)
    edit(files[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert not is_localizer(headers_of(files))
    assert is_localizer(headers_of(files[:1]))


def test_a_series_without_images_is_the_callers_mistake() -> None:
    with pytest.raises(ImagingError):
        examine_series([], LIMITS)
