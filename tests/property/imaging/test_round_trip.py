"""For any orientation, size and order of arrival: the same voxels at the same places."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.common.store import StudyStore
from services.imaging import GeometryLimits, SeriesGeometry, Volume, examine_series, load_volume
from tests.builders.series import affine_of, small_volume, sound_series, stored

quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(x * x for x in q) > 0.05)
voxels = st.tuples(st.floats(0.2, 3), st.floats(0.2, 3), st.floats(0.3, 8))
origins = st.tuples(*[st.floats(-400, 400)] * 3)
shapes = st.tuples(st.integers(2, 12), st.integers(1, 9), st.integers(1, 9))
flips = st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)


def rotation(quaternion: tuple[float, float, float, float]) -> NDArray[np.float64]:
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@given(quaternions, flips, voxels, origins, shapes, st.randoms())
def test_a_written_series_comes_back_in_any_order_with_every_voxel_at_its_place(
    quaternion: tuple[float, float, float, float],
    flip: tuple[float, float, float],
    voxel_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
    random: Random,
) -> None:
    affine = affine_of(rotation(quaternion) * np.array(flip), voxel_mm, origin_mm)
    written = small_volume(shape, affine)
    with tempfile.TemporaryDirectory() as folder:
        store = StudyStore(Path(folder) / "store")
        headers = stored(store, sound_series(Path(folder) / "dicom", written))
        random.shuffle(headers)
        geometry = examine_series(headers, GeometryLimits("a model"))
        assert isinstance(geometry, SeriesGeometry), geometry
        volume = load_volume(geometry, headers, store)
    assert isinstance(volume, Volume), volume

    # Slices come back along the normal; a left-handed grid therefore comes back reversed.
    reversed_order = np.linalg.det(affine[:3, :3]) < 0
    expected = written.array[::-1] if reversed_order else written.array
    assert np.array_equal(volume.values(), expected)
    corners = written.corners()
    np.testing.assert_allclose(
        volume.corners(), corners[::-1] if reversed_order else corners, atol=1e-8
    )

    # The affine leads to ImagePositionPatient at every plane, and instances name their planes.
    by_uid = {header.sop_instance_uid: header for header in headers}
    for k, uid in enumerate(volume.instances):
        position = by_uid[uid].numbers("ImagePositionPatient") or ()
        np.testing.assert_allclose((volume.affine @ [0, 0, k, 1])[:3], position, atol=1e-9)
    assert geometry.slice_spacing_mm > 0
    np.testing.assert_allclose(geometry.corners(), volume.corners(), atol=1e-9)


@given(st.permutations(range(7)))
def test_any_order_of_arrival_gives_the_same_geometry(order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        headers = stored(StudyStore(Path(folder) / "s"), sound_series(Path(folder) / "d"))
    one = examine_series(headers, GeometryLimits("a model"))
    other = examine_series([headers[n] for n in order], GeometryLimits("a model"))
    assert isinstance(one, SeriesGeometry)
    assert isinstance(other, SeriesGeometry)
    assert one.planes == other.planes
    assert np.array_equal(one.affine, other.affine)
