"""The networks of brats17 by our MSNet and by straight formulas: the same scores of a glioma.

The formulas follow TensorFlow's: channels last, strides that pad behind, statistics of the sample.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from models.building.architectures import build_network, load_strictly, published_keys
from models.building.errors import WeightsError
from models.building.weights import read_tensorflow_checkpoint
from models.building.weights.layout import channels_first
from tests.builders.msnet_formulas import Formulas
from tests.conftest import Scan

# File without its ending, scope of its variables, whether the first stage is halved too.
NETWORKS = [
    (f"msnet_{stage}32{view}_20000", f"MSNet_{stage.upper()}32{view}/", stage != "en")
    for stage in ("wt", "tc", "en")
    for view in ("", "sg", "cr")
]


@pytest.fixture(scope="module")
def stack() -> torch.Tensor:
    """Something like four contrasts of 19 slices: soft blobs and noise, about mean 0 and sd 1."""
    noise = torch.randn(1, 4, 19, 32, 24, generator=torch.Generator().manual_seed(17))
    soft = functional.avg_pool3d(noise, 5, 1, 2)
    return 0.5 * noise + 6 * soft


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
