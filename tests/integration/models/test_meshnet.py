"""brainchop's MeshNets by our module and by straight convolutions: the same scores of a head."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from torch.nn import functional

from models.building.architectures import build_network, load_strictly
from models.building.architectures.meshnet_layers import meshnet_of
from models.building.weights import TfjsLayers, read_tfjs_layers
from models.building.weights.layout import channels_first
from tests.conftest import Scan

# Folder in the published files, classes.
MODELS = {
    "mindgrab": 2,
    "model20chan3cls": 3,
    "model21_104class": 104,
    "model30chan18cls": 18,
    "model30chan50cls": 50,
    "model5_gw_ae": 3,
}
ACTIVATIONS = {"relu": functional.relu, "elu": functional.elu, "gelu": functional.gelu}


@pytest.fixture(scope="module")
def patch(weights: Scan) -> torch.Tensor:
    """A part of the published T1 head with brain in it, 0..1."""
    file: nibabel.Nifti1Image = nibabel.load(weights("brainchop") / "t1_crop.nii.gz")  # pyright: ignore[reportAssignmentType, reportPrivateImportUsage]
    head = np.asarray(file.dataobj, np.float32)
    part = head[100:124, 110:134, 110:130] / head.max()
    return torch.from_numpy(part.copy())[None, None]


def by_convolutions(image: torch.Tensor, model: TfjsLayers) -> torch.Tensor:
    """The layers of the file in their order, channels last as TensorFlow has them."""
    found = image.permute(0, 2, 3, 4, 1)
    for layer in model.layers[1:]:
        if layer.kind == "Activation":
            found = ACTIVATIONS[layer.settings["activation"]](found)
            continue
        kernel = model.tensors[f"{layer.name}/kernel"]
        (step,) = set(layer.settings["dilation_rate"])
        rim = step * (kernel.shape[0] // 2)
        padded = functional.pad(found, [0, 0] + [rim] * 6)
        sizes = found.shape[1:4]
        total = torch.zeros(*found.shape[:4], kernel.shape[4])
        for offset in np.ndindex(*kernel.shape[:3]):
            at = [slice(step * o, step * o + size) for o, size in zip(offset, sizes, strict=True)]
            total += padded[:, at[0], at[1], at[2]] @ kernel[offset]
        if layer.settings["use_bias"]:
            total += model.tensors[f"{layer.name}/bias"]
        if layer.name.endswith("_gn"):
            mean = total.mean(dim=(1, 2, 3), keepdim=True)
            variance = (total - mean).square().mean(dim=(1, 2, 3), keepdim=True)
            total = (total - mean) / (variance + 1e-5).sqrt()
        found = total
    return found.permute(0, 4, 1, 2, 3)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_convolutions(
    name: str, weights: Scan, patch: torch.Tensor
) -> None:
    model = read_tfjs_layers(weights("brainchop") / name / "model.json")
    arguments, keys = meshnet_of(model)
    network = load_strictly(
        build_network("meshnet", arguments), channels_first(model.tensors), keys
    )
    with torch.inference_mode():
        found, wanted = network(patch), by_convolutions(patch, model)
    assert found.shape == (1, MODELS[name], *patch.shape[2:])
    assert wanted.std() > 1
    assert (found - wanted).abs().max() < 1e-3
