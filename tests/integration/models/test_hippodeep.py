"""hippodeep's three networks by our modules and by straight formulas, on its own example head."""

from __future__ import annotations

from collections.abc import Mapping

import nibabel
import numpy as np
import pytest
import torch
from torch.nn import functional

from models.building.architectures import build_network, load_strictly
from models.building.weights import read_state_dict
from tests.conftest import Scan

FILES = {
    "hippodeep-head": "params_head_00075_00000.pt",
    "hippodeep-affine": "paramsaffineta_00079_00000.pt",
    "hippodeep-hippocampus": "hippodeep.pt",
}

Weights = Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def head(weights: Scan) -> torch.Tensor:
    """The example head, mean 0 and sd 1, [1, 1, x, y, z]."""
    file: nibabel.Nifti1Image = nibabel.load(weights("hippodeep") / "example_brain_t1.nii.gz")  # pyright: ignore[reportAssignmentType, reportPrivateImportUsage]
    voxels = np.asarray(file.dataobj, np.float32)
    return torch.from_numpy((voxels - voxels.mean()) / voxels.std())[None, None]


def both(name: str, weights: Scan, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of our module, and of the formulas."""
    tensors = read_state_dict(weights("hippodeep") / FILES[name])
    network = load_strictly(build_network(name, {}), tensors)
    with torch.inference_mode():
        return network(image), FORMULAS[name](image, tensors)


def conv(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    """A convolution of the published networks; padded, but for the first four of the third."""
    kernel = w[f"{name}.weight"]
    rim = 0 if name in ("conv0a_0", "conv0a_1", "convf1", "convaff6") else kernel.shape[2] // 2
    if name == "conv0a" and tuple(kernel.shape[2:]) == (3, 1, 1):
        rim = 0
    return functional.conv3d(functional.pad(x, [rim] * 6), kernel, w[f"{name}.bias"])


def norm(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    scale = w[f"{name}.weight"] / (w[f"{name}.running_var"] + 1e-5).sqrt()
    shift = w[f"{name}.bias"] - w[f"{name}.running_mean"] * scale
    return x * scale.view(1, -1, 1, 1, 1) + shift.view(1, -1, 1, 1, 1)


def twice(x: torch.Tensor) -> torch.Tensor:
    for axis in (2, 3, 4):
        x = x.repeat_interleave(2, dim=axis)
    return x


def half(x: torch.Tensor) -> torch.Tensor:
    for axis in (2, 3, 4):
        x = x.unflatten(axis, (-1, 2)).amax(dim=axis + 1)
    return x


def head_by_formulas(x: torch.Tensor, w: Weights) -> torch.Tensor:
    def elu(y: torch.Tensor) -> torch.Tensor:
        return torch.where(y > 0, y, y.exp() - 1)

    left: list[torch.Tensor] = []
    for level in range(4):
        x = elu(conv(half(x) if level else x, w, f"conv{level}a"))
        x = elu(norm(conv(x, w, f"conv{level}b"), w, f"bn{level}a"))
        left.append(x)
    for level in (2, 1, 0):
        x = torch.cat([elu(conv(twice(x), w, f"conv{level}u")), left[level]], dim=1)
        x = elu(norm(conv(x, w, f"conv{level}v"), w, f"bn{level}u"))
    return conv(x, w, "conv1x")


def affine_by_formulas(x: torch.Tensor, w: Weights) -> torch.Tensor:
    x = half(conv(x, w, "convaff1").clamp(min=0))
    for place in (2, 3, 4):
        x = conv(x, w, f"convaff{place}")
        mean = x.mean(dim=(2, 3, 4), keepdim=True)
        variance = (x - mean).square().mean(dim=(2, 3, 4), keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        x = half((x * w[f"bnaff{place}.weight"] + w[f"bnaff{place}.bias"]).clamp(min=0))
    x = conv(x, w, "convaff5").clamp(min=0)
    return conv(x, w, "convaff6").reshape(1, 12)


def hippocampus_by_formulas(x: torch.Tensor, w: Weights) -> torch.Tensor:
    for name in ("conv0a_0", "conv0a_1", "conv0a", "convf1"):
        x = conv(x, w, name).clamp(min=0)
    fine, pooled = x, half(x)
    x = conv(conv(norm(pooled, w, "bn1"), w, "convout0").clamp(min=0), w, "convout1")
    pooled = half((x + pooled).clamp(min=0))
    x = conv(conv(norm(pooled, w, "bn2"), w, "convout2p").clamp(min=0), w, "convout2")
    x = conv((x + pooled).clamp(min=0), w, "convlx3").clamp(min=0)
    x = conv(twice(x), w, "convlx5").clamp(min=0)
    x = conv(twice(x), w, "convlx7").clamp(min=0)
    coarse = 1 / (1 + (-conv(x, w, "convlx8")).exp())
    x = conv(fine / (1 + (-conv(coarse, w, "blur")).exp()), w, "conv_extract")
    x = torch.cat([coarse, torch.where(x > 0, x, 0.01 * x)], dim=1)
    return conv(conv(x, w, "convmix").clamp(min=0), w, "convout1x")


FORMULAS = {
    "hippodeep-head": head_by_formulas,
    "hippodeep-affine": affine_by_formulas,
    "hippodeep-hippocampus": hippocampus_by_formulas,
}


def test_the_head_scores_as_the_formulas_do(weights: Scan, head: torch.Tensor) -> None:
    found, wanted = both("hippodeep-head", weights, head[..., 60:124, 60:124, 20:84])
    assert found.shape == (1, 4, 64, 64, 64)
    assert wanted.std() > 1
    assert (found - wanted).abs().max() < 1e-3


def test_the_affine_map_is_the_formulas(weights: Scan, head: torch.Tensor) -> None:
    small = functional.interpolate(head, (64, 64, 64), mode="trilinear", align_corners=True)
    found, wanted = both("hippodeep-affine", weights, torch.cat([small, small.flip(2)], dim=1))
    assert found.shape == (1, 12)
    assert wanted.abs().max() > 0.01
    assert (found - wanted).abs().max() < 1e-3


def test_the_hippocampus_scores_as_the_formulas_do(weights: Scan, head: torch.Tensor) -> None:
    found, wanted = both("hippodeep-hippocampus", weights, head[..., 60:108, 60:132, 20:84])
    assert found.shape == (1, 1, 44, 68, 60)
    assert wanted.std() > 0.5
    assert (found - wanted).abs().max() < 1e-3
