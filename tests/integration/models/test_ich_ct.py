"""Two members of BLAST-CT through the plan and by hand, patch by patch: the same probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.building.architectures import build_network, load_strictly, published_keys
from models.building.phantoms import phantom
from models.building.weights import read_state_dict
from models.manifest import Manifest, lint_manifest
from models.runtime.crew import Crew
from models.runtime.grid import source_grid
from models.runtime.images import Image
from models.runtime.openvino_network import OpenVinoScores
from models.runtime.pipeline import Pipeline
from models.runtime.record import Stopwatch
from models.runtime.running import Run
from models.runtime.scores import Scores
from models.runtime.source_volume import SourceVolume
from models.runtime.steps import run_step
from tests.builders.cpu_networks import cpu_networks
from tests.conftest import Scan

RECIPES = Path(__file__).resolve().parents[3] / "models" / "recipes"
MEMBERS = (1, 7)
F32 = NDArray[np.float32]
# The part of the made head that holds the lesion with the dark rim: two tiles by two.
PART = (slice(None), slice(40, 80), slice(10, 55))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """The catalogue's model with two of its twelve members."""
    whole = lint_manifest(RECIPES / "ich-ct")
    names = tuple(f"member-{member}" for member in MEMBERS)
    plan = tuple(
        step.model_copy(update={"members": names}) if step.do == "infer" else step
        for step in whole.plan
    )
    networks = {name: whole.networks[name] for name in names}
    return whole.model_copy(update={"plan": plan, "networks": networks})


@pytest.fixture(scope="module")
def networks(
    manifest: Manifest, weights: Scan, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, OpenVinoScores]:
    """The members as they are built for the CPU."""
    files, folder = weights("blast-ct-v1"), tmp_path_factory.mktemp("members")
    return cpu_networks(
        manifest, lambda name: files / f"model_{name.removeprefix('member-')}.pt", folder
    )


@pytest.fixture(scope="module")
def head() -> SourceVolume:
    made = phantom("head-ct-lesions")
    return SourceVolume(np.ascontiguousarray(made.pixels[PART]).astype(np.int16), np.eye(4))


@pytest.fixture(scope="module")
def of_members(head: SourceVolume, weights: Scan) -> F32:
    """The members' probabilities [m, 5, k, j, i], as the authors' code goes about it."""
    scaled = (2 * np.clip(head.voxels, -15, 100).astype(np.float32) - 85) / 115
    each = np.zeros((len(MEMBERS), 5, *scaled.shape), np.float32)
    for place, member in enumerate(MEMBERS):
        tensors = read_state_dict(weights("blast-ct-v1") / f"model_{member}.pt")
        network = build_network("deepmedic", {"classes": 5})
        load_strictly(network, tensors, published_keys("deepmedic", {"classes": 5}))
        # Edges are repeated around, as there; answers of 30 lie side by side.
        padded = np.pad(scaled, [(40, 40 + 60)] * 3, mode="edge")
        for k in range(0, scaled.shape[0], 30):
            for j in range(0, scaled.shape[1], 30):
                for i in range(0, scaled.shape[2], 30):
                    patch = padded[k : k + 110, j : j + 110, i : i + 110].copy()
                    with torch.inference_mode():
                        found = network(torch.from_numpy(patch)[None, None]).softmax(dim=1)[0]
                    into = each[place, :, k : k + 30, j : j + 30, i : i + 30]
                    into += found.numpy()[:, : into.shape[1], : into.shape[2], : into.shape[3]]
    return each


@pytest.fixture(scope="module")
def by_hand(of_members: F32) -> F32:
    """The mean of the members' probabilities [5, k, j, i]."""
    return of_members.mean(axis=0)


def test_the_merged_probabilities_are_the_members_mean(
    manifest: Manifest, networks: dict[str, OpenVinoScores], head: SourceVolume, by_hand: F32
) -> None:
    facts = {name: network.facts for name, network in manifest.networks.items()}
    run = Run({"image": head}, networks, Crew(2), Stopwatch(), facts, 1 << 30)
    run.keep("image", Image(source_grid("image", head), ()))
    for step in manifest.plan[:4]:
        run_step(step, run)
    scores = run.values["scores"]
    assert isinstance(scores, Scores)
    merged = np.zeros_like(by_hand)
    for slab in scores.slabs:
        place: list[slice] = [slice(None)] * 4
        place[slab.axis + 1] = slice(slab.first, slab.end)
        merged[tuple(place)] = slab.scores
    assert np.abs(merged - by_hand).max() < 1e-3
    assert [time.network for time in run.watch.networks[:2]] == ["member-1", "member-7"]


def test_labels_lie_on_the_slices_of_a_head_that_was_stored_otherwise(
    manifest: Manifest,
    networks: dict[str, OpenVinoScores],
    head: SourceVolume,
    by_hand: F32,
    of_members: F32,
) -> None:
    """Slices from the head to the feet, rows from left to right: turned to what was trained on."""
    turned = head.voxels[::-1].transpose(0, 2, 1)
    affine = np.eye(4)[:, [1, 0, 2, 3]]
    affine[:, 2] *= -1
    affine[2, 3] = len(turned) - 1
    stored = SourceVolume(np.ascontiguousarray(turned), affine)
    result = Pipeline(manifest, networks, 2).run({"image": stored})
    assert result.labels is not None
    back = result.labels.transpose(0, 2, 1)[::-1]
    wanted = by_hand.argmax(axis=0)
    best = np.sort(by_hand, axis=0)
    sure = best[-1] - best[-2] > 1e-3
    assert wanted.any()
    alone = [each.argmax(axis=0).ravel() for each in of_members]
    volumes = np.stack([np.bincount(each, minlength=5)[1:] for each in alone]) / 1000.0
    numbers = result.numbers["uncertainty"]
    assert numbers.whole == {"members": len(MEMBERS)}
    for place, number in enumerate((1, 2, 3, 4)):
        low, high = np.quantile(volumes[:, place], [0.025, 0.975])
        # Where two classes are as probable, rounding decides.
        found = [numbers.of_segments[name][number] for name in ("volume_low_ml", "volume_high_ml")]
        assert found == pytest.approx([low, high], abs=0.02)
    assert np.array_equal(back[sure], wanted[sure])
    assert result.voxels == {number: int((back == number).sum()) for number in (1, 2, 3, 4)}
