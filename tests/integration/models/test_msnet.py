"""The networks of brats17 by our MSNet and by straight formulas: the same scores of a glioma.

The formulas follow TensorFlow's: channels last, strides that pad behind, statistics of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from models.building.architectures import build_network, load_strictly, published_keys
from models.building.errors import WeightsError
from models.building.weights import read_tensorflow_checkpoint
from models.building.weights.layout import channels_first
from tests.conftest import Scan

# File without its ending, scope of its variables, whether the first stage is halved too.
NETWORKS = [
    (f"msnet_{stage}32{view}_20000", f"MSNet_{stage.upper()}32{view}/", stage != "en")
    for stage in ("wt", "tc", "en")
    for view in ("", "sg", "cr")
]

Weights = Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def stack() -> torch.Tensor:
    """Something like four contrasts of 19 slices: soft blobs and noise, about mean 0 and sd 1."""
    noise = torch.randn(1, 4, 19, 32, 24, generator=torch.Generator().manual_seed(17))
    soft = functional.avg_pool3d(noise, 5, 1, 2)
    return 0.5 * noise + 6 * soft


class Formulas:
    """MSNet in TensorFlow's terms: [n, slices, h, w, c], variables by their names in the file."""

    def __init__(self, variables: Weights, scope: str) -> None:
        self.variables, self.scope = variables, scope

    def of(self, name: str) -> torch.Tensor:
        return self.variables[self.scope + name]

    def normalised(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        variance = (x * x).mean(dim=(1, 2, 3), keepdim=True) - mean * mean
        return (x - mean) / (variance + 1e-5).sqrt() * self.of(f"{name}/gamma") + self.of(
            f"{name}/beta"
        )

    def prelu(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x.clamp(min=0) + self.of(f"{name}/alpha") * (x - x.abs()) * 0.5

    def conv(
        self, x: torch.Tensor, name: str, padding: tuple[int, ...] = (), step: int = 1, dil: int = 1
    ) -> torch.Tensor:
        kernel = self.of(f"{name}/w")
        x = functional.pad(x, [0, 0, *padding])
        over = [
            x.shape[1] - kernel.shape[0] + 1,
            (x.shape[2] - dil * (kernel.shape[1] - 1) - 1) // step + 1,
            (x.shape[3] - dil * (kernel.shape[2] - 1) - 1) // step + 1,
        ]
        total = torch.zeros(1, *over, kernel.shape[4])
        for k in range(kernel.shape[0]):
            for i in range(kernel.shape[1]):
                for j in range(kernel.shape[2]):
                    seen = x[:, k : k + over[0], i * dil :: step, j * dil :: step]
                    total += seen[:, :, : over[1], : over[2]] @ kernel[k, i, j]
        return total

    def doubled(self, x: torch.Tensor, name: str) -> torch.Tensor:
        kernel = self.of(f"{name}_bn_prelu/deconv_/w")  # [1, 3, 3, out, in]
        _, slices, height, width, _ = x.shape
        out = torch.zeros(1, slices, 2 * height + 1, 2 * width + 1, kernel.shape[3])
        for i in range(3):
            for j in range(3):
                out[:, :, i : i + 2 * height : 2, j : j + 2 * width : 2] += x @ kernel[0, i, j].T
        return self.finished(out[:, :, :-1, :-1], name)

    def finished(self, x: torch.Tensor, name: str) -> torch.Tensor:
        x = self.normalised(x, f"{name}_bn_prelu/bn_")
        return self.prelu(x, f"{name}_bn_prelu/prelu_acti_")

    def fused(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self.finished(self.conv(x, f"{name}_bn_prelu/conv_"), name)

    def halved(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self.finished(self.conv(x, f"{name}_bn_prelu/conv_", (0, 1, 0, 1), step=2), name)

    def residual(self, x: torch.Tensor, name: str, dil: int) -> torch.Tensor:
        found = x
        for place in (0, 1):
            found = self.normalised(found, f"{name}/bn_{place}")
            found = self.prelu(found, f"{name}/prelu_acti_{place}")
            found = self.conv(found, f"{name}/conv_{place}", (dil,) * 4, dil=dil)
        missing = found.shape[4] - x.shape[4]
        return found + functional.pad(x, [missing // 2, missing - missing // 2])

    def scores(self, image: torch.Tensor, twice: bool) -> torch.Tensor:
        one = image.permute(0, 2, 3, 4, 1)
        one = self.residual(self.residual(one, "block1_1", 1), "block1_2", 1)
        one = self.fused(one, "fuse1")
        one = self.halved(one, "downsample1") if twice else one
        one = self.residual(self.residual(one, "block2_1", 1), "block2_2", 1)
        one = self.fused(one, "fuse2")
        two = self.halved(one, "downsample2")
        for name, dil in (("block3_1", 1), ("block3_2", 2), ("block3_3", 3)):
            two = self.residual(two, name, dil)
        two = self.fused(two, "fuse3")
        three = two
        for name, dil in (("block4_1", 3), ("block4_2", 2), ("block4_3", 1)):
            three = self.residual(three, name, dil)
        three = self.doubled(self.fused(three, "fuse4"), "pred_up3_1")
        two = self.doubled(two[:, 1:-1], "pred_up2_1")
        one = one[:, 2:-2]
        if twice:
            one = self.doubled(one, "pred_up1")
            two = self.doubled(two, "pred_up2_2")
            three = self.doubled(three, "pred_up3_2")
        else:
            one = self.conv(one, "pred1", (1,) * 4)
        found = self.conv(torch.cat([one, two, three], dim=4), "final_pred", (1,) * 4)
        return found.permute(0, 4, 1, 2, 3)


@pytest.mark.parametrize(("file", "scope", "twice"), NETWORKS)
def test_scores_are_those_of_the_formulas(
    file: str, scope: str, twice: bool, weights: Scan, stack: torch.Tensor
) -> None:
    variables = read_tensorflow_checkpoint(weights("brats17-msnet") / f"{file}.ckpt.index")
    arguments = {"downsample_twice": twice}
    network = load_strictly(
        build_network("msnet", arguments),
        channels_first(variables),
        published_keys("msnet", arguments).within(scope),
    )
    with torch.inference_mode():
        found, wanted = network(stack), Formulas(variables, scope).scores(stack, twice)
    assert found.shape == (1, 2, 11, 32, 24)
    assert wanted.std() > 1
    assert (found - wanted).abs().max() < 1e-3


def test_samples_of_a_batch_do_not_mix(weights: Scan, stack: torch.Tensor) -> None:
    variables = read_tensorflow_checkpoint(weights("brats17-msnet") / "msnet_en32_20000.ckpt.index")
    arguments = {"downsample_twice": False}
    network = load_strictly(
        build_network("msnet", arguments),
        channels_first(variables),
        published_keys("msnet", arguments).within("MSNet_EN32/"),
    )
    with torch.inference_mode():
        alone = network(stack)
        among = network(torch.cat([stack, 3 * stack.flip(3)]))[:1]
    assert (alone - among).abs().max() < 1e-4


def test_a_damaged_variable_is_named(weights: Scan, tmp_path: Path) -> None:
    for ending in ("index", "data-00000-of-00001"):
        name = f"msnet_en32_20000.ckpt.{ending}"
        content = bytearray((weights("brats17-msnet") / name).read_bytes())
        if ending != "index":
            content[100] ^= 1
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=r"block1_1/bn_0/\S+ is damaged"):
        read_tensorflow_checkpoint(tmp_path / "msnet_en32_20000.ckpt.index")
