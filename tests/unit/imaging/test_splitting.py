"""Series that hold several volumes are split by what tells them apart, and by nothing else."""

from __future__ import annotations

from pathlib import Path

from services.imaging import split_volumes
from tests.builders import broken_series
from tests.builders.series import edit, headers_of, sound_series


def test_echoes_are_volumes_of_their_own(tmp_path: Path) -> None:
    split = split_volumes(headers_of(broken_series.several_echoes(tmp_path)))
    assert split.told_by == ("EchoTime",)
    assert [volume.attributes["EchoTime"] for volume in split.volumes] == ["4.6", "9.2"]
    assert [len(volume.images) for volume in split.volumes] == [7, 7]


def test_one_volume_stays_one(tmp_path: Path) -> None:
    split = split_volumes(headers_of(sound_series(tmp_path)))
    assert len(split.volumes) == 1
    assert split.volumes[0].whole
    assert split.volumes[0].attributes["NumberOfInstances"] == "7"
    assert split.volumes[0].varying == {}


def test_a_volumes_attributes_are_those_of_all_its_images(tmp_path: Path) -> None:
    files = broken_series.several_echoes(tmp_path)
    for file in files[:7]:
        edit(file, BodyPartExamined="BRAIN", InversionTime="900")
    for file in files[7:]:
        edit(file, BodyPartExamined="HEAD")
    edit(files[8], BodyPartExamined="SKULL")
    first, second = split_volumes(headers_of(files)).volumes
    assert first.attributes["BodyPartExamined"] == "BRAIN"
    assert first.attributes["InversionTime"] == "900"
    # Differs within it, absent in it: neither is inherited.
    assert "BodyPartExamined" not in second.attributes
    assert second.varying["BodyPartExamined"] == ("HEAD", "SKULL")
    assert "InversionTime" not in second.attributes
    assert "InversionTime" not in second.varying


def test_what_one_image_lacks_is_no_attribute_of_its_volume(tmp_path: Path) -> None:
    files = sound_series(tmp_path)
    edit(files[3], BodyPartExamined=None)
    (volume,) = split_volumes(headers_of(files)).volumes
    assert "BodyPartExamined" not in volume.attributes
    assert set(volume.varying["BodyPartExamined"]) == {None, "HEAD"}


def test_decimal_strings_of_one_value_are_one(tmp_path: Path) -> None:
    files = sound_series(tmp_path)
    for n, file in enumerate(files):
        edit(file, RepetitionTime=f"8.2{n}1", EchoTime=f"4.60{n}")
    (volume,) = split_volumes(headers_of(files)).volumes
    assert volume.attributes["EchoTime"] == "4.600"
    assert "RepetitionTime" not in volume.attributes  # 8.2 to 8.26 are none


def test_a_complete_time_series_without_attributes_is_split_by_its_numbers(
    tmp_path: Path,
) -> None:
    files = broken_series.time_series(tmp_path)
    split = split_volumes(headers_of(files))
    assert split.told_by == ("InstanceNumber",)
    assert [
        sorted(int(image.text("InstanceNumber") or 0) for image in volume.images)
        for volume in split.volumes
    ] == [list(range(1, 8)), list(range(100, 107)), list(range(200, 207))]


def test_numbers_that_run_through_places_split_too(tmp_path: Path) -> None:
    files = broken_series.time_series(tmp_path)
    for n, file in enumerate(files):
        time, place = divmod(n, 7)
        edit(file, InstanceNumber=3 * place + time + 1)
    split = split_volumes(headers_of(files))
    first = sorted(int(image.text("InstanceNumber") or 0) for image in split.volumes[0].images)
    assert first == [1, 4, 7, 10, 13, 16, 19]


def test_an_incomplete_time_series_is_not_split_by_its_numbers(tmp_path: Path) -> None:
    split = split_volumes(headers_of(broken_series.incomplete_time_series(tmp_path)))
    assert len(split.volumes) == 1


def test_numbers_without_an_order_split_nothing(tmp_path: Path) -> None:
    files = broken_series.time_series(tmp_path)
    edit(files[0], InstanceNumber=150)
    assert len(split_volumes(headers_of(files)).volumes) == 1


def test_a_volume_that_lacks_a_slice_is_not_whole(tmp_path: Path) -> None:
    files = broken_series.several_echoes(tmp_path)
    split = split_volumes(headers_of(files[:-1]))
    assert [volume.whole for volume in split.volumes] == [True, False]
    assert split.volumes[1].positions == 7


def test_one_doubled_slice_is_no_second_volume(tmp_path: Path) -> None:
    headers = headers_of(broken_series.duplicate_position(tmp_path))
    assert len(split_volumes(headers).volumes) == 1


def test_the_split_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    headers = headers_of(broken_series.several_echoes(tmp_path))
    one, other = split_volumes(headers), split_volumes(headers[::-1])
    for a, b in zip(one.volumes, other.volumes, strict=True):
        assert {i.sop_instance_uid for i in a.images} == {i.sop_instance_uid for i in b.images}
