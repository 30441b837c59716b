"""The two-stage pipeline around networks that can be understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from models.manifest import Manifest
from models.runtime.errors import RequestError
from models.runtime.networks import Network
from models.runtime.pipeline import Pipeline
from models.runtime.source_volume import SourceVolume

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def bright_box(shape: tuple[int, int, int] = (40, 50, 60)) -> np.ndarray:
    volume = np.zeros(shape, np.float32)
    volume[10:30, 12:40, 15:45] = 100.0
    return volume


@pytest.fixture
def pipeline(small_manifest: Manifest, brightness_networks: Mapping[str, Network]) -> Pipeline:
    return Pipeline(small_manifest, brightness_networks)


def run(pipeline: Pipeline, volume: np.ndarray, affine: np.ndarray = AFFINE) -> Any:
    return pipeline.run({"image": SourceVolume(volume, affine)})


def test_labels_lie_where_the_source_is_bright(pipeline: Pipeline) -> None:
    volume = bright_box()
    result = run(pipeline, volume)
    assert result.labels.shape == volume.shape
    assert result.labels.dtype == np.uint8
    # The fine grid is coarser than the source here, so that surfaces may move by a voxel.
    inner = np.zeros(volume.shape, bool)
    inner[12:28, 14:38, 17:43] = True
    outer = np.zeros(volume.shape, bool)
    outer[8:32, 10:42, 13:47] = True
    assert result.labels[inner].all()
    assert not result.labels[~outer].any()
    assert result.voxels == {1: int(result.labels.sum())}


def test_the_source_is_only_read(pipeline: Pipeline) -> None:
    volume = bright_box()
    volume.setflags(write=False)
    run(pipeline, volume)
    assert np.array_equal(volume, bright_box())


def test_turning_the_source_turns_the_labels(pipeline: Pipeline) -> None:
    """The same head stored along other axes gives the same labels in patient space."""
    volume = bright_box((40, 40, 40))
    upright = run(pipeline, volume).labels
    turned_affine = AFFINE[:, [2, 0, 1, 3]]
    turned = run(pipeline, np.ascontiguousarray(volume.transpose(1, 2, 0)), turned_affine).labels
    assert np.array_equal(turned, upright.transpose(1, 2, 0))


def test_nothing_found_is_an_answer_with_no_voxels(
    small_manifest: Manifest, brightness_networks: Mapping[str, Any]
) -> None:
    blind = {
        name: type(network)(name, network.shape, above=1e9)
        for name, network in brightness_networks.items()
    }
    result = run(Pipeline(small_manifest, blind), bright_box())
    assert result.refusal is None
    assert result.voxels == {1: 0}
    assert not result.labels.any()
    assert [network.network for network in result.networks] == ["coarse"]


def test_an_image_without_contrast_is_refused(pipeline: Pipeline) -> None:
    result = run(pipeline, np.full((30, 30, 30), 7.0, np.float32))
    assert result.labels is None
    assert result.refusal.reason == "blank_image"
    assert result.refusal.values == {"low": "7", "high": "7"}


def test_unmeasured_voxels_change_nothing_around_them(pipeline: Pipeline) -> None:
    clean = bright_box()
    holed = clean.copy()
    holed[:, :8, :] = np.nan
    holed[:3] = np.nan
    assert np.array_equal(run(pipeline, holed).labels, run(pipeline, clean).labels)


def test_networks_see_the_background_where_nothing_was_measured(
    pipeline: Pipeline, brightness_networks: Mapping[str, Any]
) -> None:
    holed = bright_box()
    holed[:, :, :20] = np.nan
    run(pipeline, holed)
    coarse = brightness_networks["coarse"].image()
    assert np.isfinite(coarse).all()
    unseen = coarse.ravel()[0]
    assert unseen == coarse.min()


def test_a_volume_without_a_measured_voxel_is_refused(pipeline: Pipeline) -> None:
    result = run(pipeline, np.full((30, 30, 30), np.nan, np.float32))
    assert result.refusal.reason == "blank_image"


def test_times_of_networks_and_stages_are_told(
    pipeline: Pipeline, small_manifest: Manifest
) -> None:
    result = run(pipeline, bright_box())
    assert [network.network for network in result.networks] == ["coarse", "fine"]
    plan = [f"{step.do} {step.out}" for step in small_manifest.plan]
    assert [stage.stage for stage in result.stages] == [*plan, "write labels"]


def test_the_volume_of_the_grid_role_has_to_be_there(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match="role image is wanted; given are: none"):
        pipeline.run({})


def test_a_network_built_for_another_size_is_refused(
    small_manifest: Manifest, brightness_networks: Mapping[str, Any]
) -> None:
    wrong = dict(brightness_networks)
    wrong["fine"] = type(wrong["fine"])("fine", (8, 8, 8))
    with pytest.raises(RequestError, match="fine is built for"):
        Pipeline(small_manifest, wrong)
