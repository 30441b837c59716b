"""Operators of one axis, and whole volumes, equal SciPy's and scikit-image's interpolation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from models.runtime.crew import Crew
from models.runtime.interpolation import Boundary, Kind, nearest_indices, operator
from models.runtime.sampling import AxisSampling, samplings
from models.runtime.separable import resample
from models.runtime.separate_z import resample_as_nnunet, separate_axis

KINDS: tuple[Kind, ...] = ("nearest", "linear", "cubic")
BOUNDARIES: tuple[Boundary, ...] = ("nearest", "mirror", "reflect")
ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
SIDES = st.integers(2, 40)
SHAPES = st.tuples(SIDES, SIDES, SIDES)
SEEDS = st.integers(0, 2**32 - 1)
# float32, relative to the range of the values.
CLOSE = 1e-4
CREW = Crew(2)


def values(seed: int, shape: tuple[int, ...], kind: type = np.float32) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) * 2000 - 1000).astype(kind)


def assert_close(found: np.ndarray, expected: Any, kind: Kind, of: np.ndarray) -> None:
    assert found.shape == expected.shape
    if kind == "nearest":
        np.testing.assert_array_equal(found, expected)
    else:
        assert np.abs(found - expected).max() <= CLOSE * np.ptp(of)


@given(
    SEEDS,
    st.integers(5, 60),
    st.integers(1, 60),
    st.floats(0.05, 4.0),
    st.floats(-20.0, 20.0),
    st.sampled_from(KINDS),
    st.sampled_from(BOUNDARIES),
)
def test_an_axis_anywhere_equals_scipys_map_coordinates(
    seed: int, size: int, out: int, scale: float, shift: float, kind: Kind, boundary: Boundary
) -> None:
    signal = values(seed, (size,))
    # Two voxels equally near: SciPy goes on from the mirrored place, so only one end is shared.
    boundary = "nearest" if kind == "nearest" else boundary
    sampling = AxisSampling(size, out, "spacing", scale, shift)
    expected = ndimage.map_coordinates(
        signal, sampling.places[None], order=ORDERS[kind], mode=boundary
    )
    assert_close(operator(sampling, kind, boundary).matrix @ signal, expected, kind, signal)


@given(SEEDS, SHAPES, SHAPES, st.sampled_from(KINDS))
def test_half_pixel_centres_equal_scikit_images_resize(
    seed: int, shape: tuple[int, int, int], out: tuple[int, int, int], kind: Kind
) -> None:
    volume = values(seed, shape)
    found = resample(
        volume, samplings(shape, out, "half-pixel"), (kind, kind, kind), CREW, clip="volume"
    )
    expected = resize(volume, out, order=ORDERS[kind], mode="edge", anti_aliasing=False, clip=True)
    assert_close(found, expected, kind, volume)
    assert volume.min() <= found.min()
    assert found.max() <= volume.max()


@given(SEEDS, SHAPES, SHAPES, st.sampled_from(KINDS))
def test_aligned_centres_equal_scipys_zoom(
    seed: int, shape: tuple[int, int, int], out: tuple[int, int, int], kind: Kind
) -> None:
    volume = values(seed, shape, np.int16)
    zoom = [size / own for size, own in zip(out, shape, strict=True)]
    expected = ndimage.zoom(
        volume, zoom, output=np.float32, order=ORDERS[kind], mode="nearest", grid_mode=False
    )
    found = resample(volume, samplings(shape, out, "aligned"), (kind, kind, kind), CREW)
    assert_close(found, expected, kind, volume)


@given(SEEDS, SHAPES, SHAPES, st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_how_a_volume_lies_in_memory_does_not_show(
    seed: int,
    shape: tuple[int, int, int],
    out: tuple[int, int, int],
    order: list[int],
    flipped: tuple[bool, bool, bool],
) -> None:
    stored = values(seed, tuple(shape[order.index(axis)] for axis in range(3)))
    view = stored.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flipped)]
    axes = samplings(view.shape, out, "half-pixel")
    kinds: tuple[Kind, Kind, Kind] = ("linear", "cubic", "nearest")
    found = resample(view, axes, kinds, CREW)
    expected = resample(np.ascontiguousarray(view), axes, kinds, Crew(1))
    assert np.abs(found - expected).max() <= CLOSE * np.ptp(view)


@given(SEEDS, SHAPES, SHAPES, st.sampled_from(["no", "volume", "planes"]))
def test_a_torch_tensor_becomes_the_same(
    seed: int,
    shape: tuple[int, int, int],
    out: tuple[int, int, int],
    clip: Literal["no", "volume", "planes"],
) -> None:
    volume = values(seed, shape, np.int16)
    axes = samplings(shape, out, "half-pixel")
    kinds: tuple[Kind, Kind, Kind] = ("nearest", "cubic", "linear")
    found = resample(torch.from_numpy(volume), axes, kinds, CREW, clip=clip)
    assert isinstance(found, torch.Tensor)
    expected = resample(volume, axes, kinds, CREW, clip=clip)
    assert np.abs(found.numpy() - expected).max() <= CLOSE * np.ptp(volume)


def nnunets(
    volume: np.ndarray, out: tuple[int, ...], axis: int, order: int, across: int
) -> np.ndarray:
    """`resample_data_or_seg` of nnunetv2 2.8.1 with do_separate_z, for one channel."""
    planes = np.moveaxis(volume.astype(float), axis, 0)
    shape = np.moveaxis(np.empty(out, bool), axis, 0).shape
    each: list[Any] = [
        resize(plane, shape[1:], order, mode="edge", anti_aliasing=False) for plane in planes
    ]
    resized: Any = np.stack(each)
    if len(planes) != shape[0]:
        places = np.mgrid[: shape[0], : shape[1], : shape[2]].astype(float)
        places[0] = len(planes) / shape[0] * (places[0] + 0.5) - 0.5
        resized = ndimage.map_coordinates(resized, places, order=across, mode="nearest")
    return np.moveaxis(resized, 0, axis)


@given(SEEDS, SHAPES, SHAPES, st.integers(0, 2), st.sampled_from(KINDS), st.sampled_from(KINDS[:2]))
def test_planes_far_apart_are_resampled_as_nnunet_does(
    seed: int,
    shape: tuple[int, int, int],
    out: tuple[int, int, int],
    axis: int,
    kind: Kind,
    kind_across: Kind,
) -> None:
    volume = values(seed, shape)
    first, second, third = (5.0 if each == axis else 1.0 for each in range(3))
    even = (1.0, 1.0, 1.0)
    found = resample_as_nnunet(volume, out, (first, second, third), even, CREW, kind, kind_across)
    expected = nnunets(volume, out, axis, ORDERS[kind], ORDERS[kind_across])
    assert np.abs(found - expected).max() <= CLOSE * np.ptp(volume)


@pytest.mark.parametrize(
    ("now", "then", "axis"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 3.5), 2),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
        ((0.2, 1.0, 1.0), (1.0, 9.0, 1.0), None),
    ],
)
def test_the_spacing_decides_whether_planes_lie_far_apart(
    now: tuple[float, float, float], then: tuple[float, float, float], axis: int | None
) -> None:
    assert separate_axis(now, then) == axis


def test_planes_of_a_tie_go_to_the_later_voxel() -> None:
    (halves, *_) = samplings((8, 1, 1), (4, 1, 1), "half-pixel")
    assert nearest_indices(halves).tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("centres", ["half-pixel", "aligned"])
def test_an_axis_of_one_voxel_is_constant(
    kind: Kind, centres: Literal["half-pixel", "aligned"]
) -> None:
    volume = values(1, (1, 6, 1))
    found = resample(volume, samplings((1, 6, 1), (4, 6, 3), centres), (kind, kind, kind), CREW)
    np.testing.assert_allclose(found, np.broadcast_to(volume, (4, 6, 3)), rtol=1e-6)
