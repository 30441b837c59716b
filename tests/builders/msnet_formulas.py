"""MSNet in TensorFlow's terms, step by step: the other side of every comparison with our module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

__all__ = ["Formulas", "Weights"]

Weights = Mapping[str, torch.Tensor]


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
