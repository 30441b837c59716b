"""Selection: which model wants which series, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
from pydicom.uid import UID, RawDataStorage

from models.manifest import Manifest
from services.common.headers import InstanceHeader
from services.orchestrator.selection import select_series, selection_digest
from tests.builders.head_like import write_head_like
from tests.builders.revisions import series_of
from tests.builders.selections import chosen_in
from tests.builders.series import edit

PLACE = ("ImagePositionPatient", "ImageOrientationPatient")


def test_wanted_series_is_chosen_with_its_slices_in_order(
    tmp_path: Path, manifest: Manifest
) -> None:
    series = series_of(reversed(write_head_like(tmp_path)))
    selection = select_series(manifest, [series])
    assert selection.verdicts == {}
    (chosen,) = chosen_in(selection)
    heights = [plane.position_mm[2] for plane in chosen.geometry.planes]
    assert heights == sorted(heights)


def test_every_series_is_chosen_or_has_a_verdict(tmp_path: Path, manifest: Manifest) -> None:
    good = series_of(write_head_like(tmp_path, series="good"))
    ct = series_of(write_head_like(tmp_path, series="ct"), Modality="CT")
    scout = series_of(
        write_head_like(tmp_path, series="scout", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    )
    short = series_of(write_head_like(tmp_path, series="short")[:5])
    selection = select_series(manifest, [good, ct, scout, short])
    assert [each.series.series_uid for each in chosen_in(selection)] == [good.series_uid]
    reasons = {uid: verdict.reason for uid, verdict in selection.verdicts.items()}
    assert reasons == {
        ct.series_uid: "attribute_mismatch",
        scout.series_uid: "localizer",
        short.series_uid: "too_few_slices",
    }


def test_mismatch_names_attribute_found_and_expected(tmp_path: Path, manifest: Manifest) -> None:
    ct = series_of(write_head_like(tmp_path), Modality="CT")
    verdict = select_series(manifest, [ct]).verdicts[ct.series_uid]
    assert verdict.values["attribute"] == "Modality"
    assert verdict.values["found"] == "CT"
    assert "MR" in str(verdict.values["expectation"])
    assert "CT" in verdict.sentence


def test_better_series_wins_and_the_other_learns_which(tmp_path: Path, manifest: Manifest) -> None:
    fine = series_of(write_head_like(tmp_path, series="fine", slices=40, number=7))
    coarse = series_of(write_head_like(tmp_path, series="coarse", slices=24, number=3))
    selection = select_series(manifest, [coarse, fine])
    assert [each.series.series_uid for each in chosen_in(selection)] == [fine.series_uid]
    verdict = selection.verdicts[coarse.series_uid]
    assert verdict.reason == "better_series_chosen"
    assert verdict.values["chosen_series"] == "7"


def test_of_equals_the_normalised_series_is_chosen_and_then_the_later(
    tmp_path: Path, manifest: Manifest
) -> None:
    plain = ("ORIGINAL", "PRIMARY", "M", "ND")
    normalised = (*plain, "NORM")
    first, second, third, fourth = (
        series_of(write_head_like(tmp_path, series=f"s{n}", number=n, image_type=kinds))
        for n, kinds in ((2, normalised), (9, plain), (10, normalised), (4, normalised))
    )
    selection = select_series(manifest, [second, third, first, fourth])
    assert [each.series.series_uid for each in chosen_in(selection)] == [third.series_uid]
    assert "normalised" in selection.verdicts[second.series_uid].sentence
    assert "later one" in selection.verdicts[first.series_uid].sentence
    assert selection.verdicts[fourth.series_uid].values["chosen_series"] == "10"


def test_more_slices_weigh_more_than_normalisation(tmp_path: Path, manifest: Manifest) -> None:
    fine = series_of(write_head_like(tmp_path, series="fine", slices=40))
    kinds = ("ORIGINAL", "PRIMARY", "M", "NORM")
    coarse = series_of(write_head_like(tmp_path, series="coarse", image_type=kinds, number=9))
    selection = select_series(manifest, [coarse, fine])
    assert [each.series.series_uid for each in chosen_in(selection)] == [fine.series_uid]


def test_series_that_fails_the_gate_leaves_the_place_to_the_next(
    tmp_path: Path, manifest: Manifest
) -> None:
    torn = write_head_like(tmp_path, series="torn", slices=40)
    del torn[20]
    whole = series_of(write_head_like(tmp_path, series="whole", slices=24))
    selection = select_series(manifest, [series_of(torn), whole])
    assert [each.series.series_uid for each in chosen_in(selection)] == [whole.series_uid]
    assert selection.verdicts[series_of(torn).series_uid].reason == "missing_slice"


def raw_data_of(file: Path, target: Path) -> Path:
    """The raw data that a scanner sends with an image, in the image's series."""
    data = pydicom.dcmread(file)
    for element in list(data):
        if element.tag.group == 0x0028 or element.keyword in ("PixelData", *PLACE):
            del data[element.tag]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = RawDataStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID("2.25.77")
    data.save_as(target)
    return target


def test_an_object_without_an_image_does_not_spoil_its_series(
    tmp_path: Path, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path)
    (expected,) = chosen_in(select_series(manifest, [series_of(files)]))
    raw = raw_data_of(files[0], tmp_path / "raw.dcm")
    asked: list[InstanceHeader] = []

    def open_images(headers: Sequence[InstanceHeader]) -> Sequence[InstanceHeader]:
        asked.extend(headers)
        return headers

    for series in ([raw, *files], [*files, raw]):
        selection = select_series(manifest, [series_of(series)], open_images)
        assert selection.verdicts == {}
        (chosen,) = chosen_in(selection)
        assert chosen.geometry.planes == expected.geometry.planes
    assert "2.25.77" not in {header.sop_instance_uid for header in asked}
    alone = series_of([raw])
    assert select_series(manifest, [alone]).verdicts[alone.series_uid].reason == "not_an_image"


def test_an_image_that_lacks_its_matrix_is_still_missed(tmp_path: Path, manifest: Manifest) -> None:
    files = write_head_like(tmp_path)
    edit(files[-1], Rows=None)
    series = series_of(files)
    verdict = select_series(manifest, [series]).verdicts[series.series_uid]
    assert (verdict.reason, verdict.values["attribute"]) == ("missing_geometry", "Rows")


def test_order_of_series_does_not_matter(tmp_path: Path, manifest: Manifest) -> None:
    twins = [series_of(write_head_like(tmp_path, series=name)) for name in ("a", "b")]
    first = select_series(manifest, twins)
    second = select_series(manifest, twins[::-1])
    (one,), (other,) = chosen_in(first), chosen_in(second)
    assert one.series == other.series
    assert first.verdicts == second.verdicts


def test_own_result_is_not_analysed(tmp_path: Path, manifest: Manifest) -> None:
    ours = replace(series_of(write_head_like(tmp_path)), made_by_axial=True)
    assert select_series(manifest, [ours]).verdicts[ours.series_uid].reason == "own_result"


def test_digest_of_a_selection_changes_with_any_byte(tmp_path: Path, manifest: Manifest) -> None:
    series = series_of(write_head_like(tmp_path))
    (chosen,) = select_series(manifest, [series]).selections
    uid = next(iter(series.data_digests))
    other = replace(series, data_digests={**series.data_digests, uid: "0" * 64})
    (changed,) = select_series(manifest, [other]).selections
    assert selection_digest(chosen) != selection_digest(changed)
