"""Train the small nnU-Nets of `nnunet_cases` and write what nnunetv2's own predictor finds.

    python tests/parity/make_nnunet_cases.py [CASE ...]

in an environment with nnunetv2 2.8.1 (`pip install nnunetv2==2.8.1`). Each case becomes
`tests/parity/nnunet/<case>.npz`: the scan, the labels, what they would be if nnU-Net added up its
tiles in single precision, and the trained weights, which are numbers of half precision. Everything
is seeded; another processor may round otherwise and train other weights, for which the labels are
then made anew.
"""

# nnunetv2 is not among the project's own packages.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel
import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.builders.nnunet_folder import checkpoint_of, write_trained
from tests.parity.nnunet_cases import CASES, TrainedCase

INTO = Path(__file__).parent / "nnunet"
_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def scan(case: TrainedCase) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return int16 [k, j, i] a channel, segments uint8, and the affine of (i, j, k, 1) to RAS."""
    random = np.random.default_rng(7)
    spacing = np.array(case.spacing_mm)
    extent = spacing * case.shape
    places = np.stack(np.meshgrid(*map(np.arange, case.shape), indexing="ij"), axis=-1) * spacing
    inside = (((places / extent - [0.5, 0.52, 0.48]) / 0.44) ** 2).sum(axis=-1) <= 1.0
    segments = np.zeros(case.shape, np.uint8)
    for place in range(10):
        centre = random.uniform(0.25, 0.75, 3) * extent
        radius = random.uniform(3.5, 8.5)
        ball = (((places - centre) / radius) ** 2).sum(axis=-1) <= 1.0
        segments[ball & inside] = 1 + place % 2
    channels = [
        _channel(of, segments, inside, random.normal(0.0, 12.0, case.shape))
        for of in (case.values, *case.further)
    ]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for axis, letter in enumerate(case.directions):
        row, sign = _AXES[letter]
        affine[row, 2 - axis] = sign * case.spacing_mm[axis]
    affine[:3, 3] = [-20.5, 13.25, 4.75]
    return channels, segments, affine


def _channel(
    of: tuple[int, int, int, int], segments: np.ndarray, inside: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    outside, body, bright, dark = of
    values = np.choose(segments, [body, bright, dark]) + noise
    # Whatever is measured is no zero, and holes of zeros are enclosed.
    values = np.where(inside, np.maximum(values, 1.0) if min(of) >= 0 else values, outside)
    middle = tuple(side // 2 for side in segments.shape)
    values[middle[0], middle[1] - 1 : middle[1] + 2, middle[2] - 1 : middle[2] + 2] = outside
    return np.round(values).astype(np.int16)


def trained(
    case: TrainedCase, niftis: list[Path], labels: Path, seed: int
) -> dict[str, torch.Tensor]:
    """Train a network on the one scan, until its decisions are sharp; rounded to half precision."""
    torch.manual_seed(seed)
    plans = PlansManager(json.loads(json.dumps(case.plans)))
    configuration = plans.get_configuration(case.configuration)
    manager = plans.get_label_manager(case.dataset)
    data, segments, _ = DefaultPreprocessor(verbose=False).run_case(
        [str(nifti) for nifti in niftis], str(labels), plans, configuration, dict(case.dataset)
    )
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        len(niftis),
        manager.num_segmentation_heads,
        allow_init=True,
        deep_supervision=False,
    )
    regions = manager.foreground_regions if manager.has_regions else None
    wanted = _targets(torch.from_numpy(segments[0].astype(np.int64)), regions)
    image = torch.from_numpy(data)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    random, loss = np.random.default_rng(seed), torch.zeros(())
    sides = configuration.patch_size
    for _ in range(case.steps):
        shown, asked = zip(*(_crop(image, wanted, sides, random) for _ in range(2)), strict=True)
        found = network(torch.stack(shown))
        loss = _loss(found, torch.stack(asked), regions is not None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"  fold {seed}: loss {float(loss.detach()):.4f}")  # noqa: T201
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    return dict(network.eval().state_dict())


def _targets(segments: torch.Tensor, regions: Any) -> torch.Tensor:
    if regions is None:
        return segments.clamp(min=0)[None]
    return torch.stack([torch.isin(segments, torch.tensor(region)).long() for region in regions])


def _crop(
    image: torch.Tensor, wanted: torch.Tensor, patch: list[int], random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    sides = [1] * (3 - len(patch)) + list(patch)
    pads = [max(side - have, 0) for side, have in zip(sides, image.shape[1:], strict=True)]
    padding = [each for pad in reversed(pads) for each in (0, pad)]
    image = torch.nn.functional.pad(image, padding)
    wanted = torch.nn.functional.pad(wanted, padding)
    starts = [
        int(random.integers(have - side + 1))
        for side, have in zip(sides, image.shape[1:], strict=True)
    ]
    part = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    shown, asked = image[(slice(None), *part)], wanted[(slice(None), *part)]
    return (shown[:, 0], asked[:, 0]) if len(patch) == 2 else (shown, asked)


def _loss(found: torch.Tensor, wanted: torch.Tensor, regions: bool) -> torch.Tensor:
    if regions:
        return torch.nn.functional.binary_cross_entropy_with_logits(found, wanted.float())
    rare = torch.tensor([1.0, 4.0, 4.0])[: found.shape[1]]
    return torch.nn.functional.cross_entropy(found, wanted[:, 0], rare)


def predicted(
    folder: Path, niftis: list[Path], work: Path, step: float = 0.5, mirror: bool = True
) -> np.ndarray:
    """Return what nnU-Net's predictor writes of a scan's channels, [k, j, i]."""
    predictor = nnUNetPredictor(
        tile_step_size=step,
        use_mirroring=mirror,
        device=torch.device("cpu"),
        perform_everything_on_device=False,
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(folder), None)
    named = [str(nifti) for nifti in niftis]
    predictor.predict_from_files_sequential([named], [str(work / "found")])
    return nibabel.Nifti1Image.from_filename(work / "found.nii.gz").get_fdata().T.astype(np.uint8)


def make(name: str, case: TrainedCase) -> None:
    """Write one case."""
    channels, segments, affine = scan(case)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        niftis = [work / f"scan_{place:04d}.nii.gz" for place in range(len(channels))]
        for values, nifti in zip(channels, niftis, strict=True):
            nibabel.save(nibabel.Nifti1Image(values.T, affine), nifti)
        labels = work / "labels.nii.gz"
        nibabel.save(nibabel.Nifti1Image(segments.T, affine), labels)
        states = [trained(case, niftis, labels, seed) for seed in range(case.folds)]
        checkpoints = [
            checkpoint_of(state, case.configuration, fold, case.trainer, case.mirroring)
            for fold, state in enumerate(states)
        ]
        model = work / f"{case.trainer}__nnUNetPlans__{case.configuration}"
        write_trained(model, dict(case.plans), dict(case.dataset), checkpoints)
        found = predicted(model, niftis, work)
        with patch.object(torch, "half", torch.float32):
            in_single = predicted(model, niftis, work)
    print(  # noqa: T201
        f"  labels {np.bincount(found.ravel()).tolist()}, {(found == segments).mean():.4f} as "
        f"drawn, {(found != in_single).sum()} by half precision alone"
    )
    content: dict[str, Any] = packed(states)
    np.savez_compressed(
        INTO / f"{name}.npz",
        scan=channels[0],
        **{f"scan_{place}": one for place, one in enumerate(channels) if place},
        affine_ras=affine,
        labels=found,
        labels_single=in_single,
        versions=versions("nnunetv2", "torch", "scikit-image", "scipy", "numpy"),
        **content,
    )


def versions(*packages: str) -> str:
    """Return what a case was made with, as JSON."""
    return json.dumps({one: version(one) for one in packages})


def packed(states: list[dict[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    """Return each variable once, in half precision, and which names mean the same one."""
    content: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    for fold, state in enumerate(states):
        first: dict[int, str] = {}
        for name, tensor in state.items():
            names[name] = first.setdefault(tensor.data_ptr(), name)
            if names[name] == name:
                content[f"{fold}/{name}"] = tensor.numpy().astype(np.float16)
    return {**content, "names": np.array(json.dumps(names))}


if __name__ == "__main__":
    torch.set_num_threads(1)
    INTO.mkdir(exist_ok=True)
    for chosen in sys.argv[1:] or CASES:
        print(chosen)  # noqa: T201
        make(chosen, CASES[chosen])
