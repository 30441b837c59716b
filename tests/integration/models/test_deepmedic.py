"""BLAST-CT's members by our DeepMedic and by straight formulas: the same scores of a real CT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from torch.nn import functional

from models.building.architectures import build_network, load_strictly, published_keys
from models.building.errors import WeightsError
from models.building.weights import read_state_dict
from tests.conftest import Scan

ARGUMENTS = {"classes": 5}
MEMBERS = 12


@pytest.fixture(scope="module")
def patch(scan: Scan) -> torch.Tensor:
    """110 mm cubed from the middle of a head CT, -15..100 HU to -1..1; lesion or not."""
    slices = [pydicom.dcmread(file) for file in scan("ge-ct-head-tilted").glob("*.dcm")]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    stored = np.stack([one.pixel_array for one in slices]).astype(np.float32)
    units = stored * float(slices[0].RescaleSlope) + float(slices[0].RescaleIntercept)
    window = (2 * units.clip(-15, 100) - 85) / 115
    size = [110, *(round(512 * float(step)) for step in slices[0].PixelSpacing)]
    head = functional.interpolate(torch.from_numpy(window)[None, None], size, mode="trilinear")
    middle = [(side - 110) // 2 for side in size[1:]]
    return head[..., middle[0] : middle[0] + 110, middle[1] : middle[1] + 110].contiguous()


def by_formulas(image: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The published network (a patch of 110, scores of the 30 in its middle), step by step."""
    # The first voxel of the crop, its end, where sub-sampling begins, and the step.
    looks = {"path(5, 5, 5)0": (0, 110, 2, 5), "path(3, 3, 3)1": (16, 94, 1, 3)}
    looks["path(1, 1, 1)2"] = (32, 78, 0, 1)
    seen: list[torch.Tensor] = []
    for name, (start, end, first, step) in looks.items():
        found = image[:, :, start:end, start:end, start:end]
        found = found[:, :, first::step, first::step, first::step]
        for place in range(1, 9):
            found = block(found, f"{name}.path.{place}", weights)
        for axis in (2, 3, 4):
            found = found.repeat_interleave(step, dim=axis)
        seen.append(found)
    found = torch.cat(seen, dim=1)
    for place in range(3):
        found = block(found, f"fully_connected.{place}", weights)
    return found


def block(image: torch.Tensor, name: str, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    kernel = weights[f"{name}.conv.weight"]
    scale = weights[f"{name}.bn.weight"] / (weights[f"{name}.bn.running_var"] + 1e-5).sqrt()
    moved = image - weights[f"{name}.bn.running_mean"].view(1, -1, 1, 1, 1)
    found = moved * scale.view(1, -1, 1, 1, 1) + weights[f"{name}.bn.bias"].view(1, -1, 1, 1, 1)
    found = torch.where(found >= 0, found, weights[f"{name}.prelu.weight"] * found)
    found = functional.conv3d(found, kernel)
    if kernel.shape[0] != kernel.shape[1]:
        return found
    return found + (image[:, :, 1:-1, 1:-1, 1:-1] if kernel.shape[2] == 3 else image)


@pytest.mark.parametrize("member", range(1, MEMBERS + 1))
def test_every_variable_of_a_member_is_used(member: int, weights: Scan) -> None:
    tensors = read_state_dict(weights("blast-ct-v1") / f"model_{member}.pt")
    keys = published_keys("deepmedic", ARGUMENTS)
    network = load_strictly(build_network("deepmedic", ARGUMENTS), tensors, keys)
    loaded = network.state_dict()
    assert all(torch.equal(loaded[name], one) for name, one in keys.applied(tensors).items())
    assert len(loaded) == len(tensors)


@pytest.mark.parametrize("member", [1, 6, 12])
def test_a_member_scores_a_real_ct_as_the_formulas_do(
    member: int, weights: Scan, patch: torch.Tensor
) -> None:
    tensors = read_state_dict(weights("blast-ct-v1") / f"model_{member}.pt")
    network = build_network("deepmedic", ARGUMENTS)
    load_strictly(network, tensors, published_keys("deepmedic", ARGUMENTS))
    with torch.inference_mode():
        found, wanted = network(patch), by_formulas(patch, tensors)
    assert found.shape == (1, 5, 30, 30, 30)
    assert wanted.std() > 1
    assert (found - wanted).abs().max() < 1e-3


def test_weights_of_one_member_are_not_anothers(weights: Scan, patch: torch.Tensor) -> None:
    scores: list[torch.Tensor] = []
    for member in (1, 2):
        tensors = read_state_dict(weights("blast-ct-v1") / f"model_{member}.pt")
        network = build_network("deepmedic", ARGUMENTS)
        load_strictly(network, tensors, published_keys("deepmedic", ARGUMENTS))
        with torch.inference_mode():
            scores.append(network(patch))
    assert (scores[0] - scores[1]).abs().max() > 1


def test_a_path_that_is_missing_from_the_file_is_named(weights: Scan, tmp_path: Path) -> None:
    tensors = read_state_dict(weights("blast-ct-v1") / "model_1.pt")
    del tensors["path(3, 3, 3)1.path.4.conv.weight"]
    torch.save(tensors, tmp_path / "less.pt")
    network = build_network("deepmedic", ARGUMENTS)
    with pytest.raises(WeightsError, match=r"1 variables are missing \(paths\.1\.path\.4\.conv"):
        load_strictly(
            network,
            read_state_dict(tmp_path / "less.pt"),
            published_keys("deepmedic", ARGUMENTS),
        )
