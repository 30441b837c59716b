"""The known answer of a build: a small volume in which the networks find something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.building.errors import ParityError
from models.building.parity import known_answer_of, segment_volume
from models.building.phantoms import ReferenceVolume
from models.importing import Said, import_nnunet
from models.manifest import Manifest, lint_manifest
from models.manifest.schema import ParityCase
from models.runtime.known_answer import check_known_answer
from models.runtime.pipeline import Pipeline
from tests.builders.linear_networks import Linear
from tests.builders.nnunet_cases import unpacked

# After the window, 257.4 HU: nothing that is mapped to 0 to 255 is so bright.
DENSE = 1.09


def bright(name: str) -> Linear:
    """A network that finds what is denser; the other label nowhere."""
    return Linear(name, (0.0, 1.0, 0.0), (0.0, -DENSE, -9.0), shape=(16, 32, 32))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """An imported model of one fold that is compared on a file."""
    case = unpacked("ct-two-folds", tmp_path)
    said = Said("balls", tmp_path / "models", folds=("0",))
    found = lint_manifest(import_nnunet(case.folder, said, lambda step: None).folder)
    parity = found.acceptance.parity.model_copy(
        update={"case": ParityCase(source="beside", path="case.nii.gz", role="image")}
    )
    acceptance = found.acceptance.model_copy(update={"parity": parity})
    return found.model_copy(update={"acceptance": acceptance})


def head(dense: slice) -> ReferenceVolume:
    pixels = np.full((40, 170, 60), -800.0, np.float32)
    pixels[10:30, dense, 20:50] = 900.0
    return ReferenceVolume(pixels, np.diag([1.0, 1.5, 1.25, 1.0]))


def test_what_is_not_found_in_a_shrunk_scan_is_kept_as_it_is(manifest: Manifest) -> None:
    networks = {"fold-0": bright("fold-0")}
    scan = head(slice(30, 50))
    labels = segment_volume(manifest, networks, scan)
    known = known_answer_of(manifest, networks, scan, labels)
    assert known.image.dtype == np.int16
    found = np.argwhere(labels)
    low, high = found.min(axis=0), found.max(axis=0) + 1
    box = tuple(
        slice(max(first - 16, 0), min(end + 16, side))
        for first, end, side in zip(low, high, labels.shape, strict=True)
    )
    assert np.array_equal(known.image, scan.pixels[box])
    start = [part.start for part in reversed(box)]
    assert np.allclose(known.affine_lps[:3, 3], scan.affine_lps[:3, :3] @ start)
    assert check_known_answer(Pipeline(manifest, networks), known) == 1.0


def test_of_two_that_are_answered_the_one_that_asks_less_is_kept(manifest: Manifest) -> None:
    """A shrunk scan reaches as far as the whole: a network with a small patch is asked often."""
    often = Linear("fold-0", (0.0, 1.0, 0.0), (0.0, -1.0, -9.0), shape=(16, 32, 32))
    scan = head(slice(30, 50))
    scan.pixels[0, 0, 0] = scan.pixels[39, 168, 57] = -700.0  # nothing of it is cropped away
    labels = segment_volume(manifest, {"fold-0": often}, scan)
    known = known_answer_of(manifest, {"fold-0": often}, scan, labels)
    assert known.image.max() == 900
    assert known.image.shape[1] < 20 + 2 * 16 + 1


def test_no_more_is_kept_than_is_quickly_run(manifest: Manifest) -> None:
    networks = {"fold-0": bright("fold-0")}
    scan = head(slice(5, 165))
    known = known_answer_of(manifest, networks, scan, segment_volume(manifest, networks, scan))
    assert known.image.shape == (40, 128, 56)


def test_values_that_are_no_whole_numbers_are_kept(manifest: Manifest) -> None:
    networks = {"fold-0": bright("fold-0")}
    scan = head(slice(30, 50))
    scan.pixels[:] += np.float32(0.25)
    known = known_answer_of(manifest, networks, scan, segment_volume(manifest, networks, scan))
    assert known.image.dtype == np.float32


def test_a_scan_in_which_nothing_is_found_shows_nothing(manifest: Manifest) -> None:
    with pytest.raises(ParityError, match="find nothing"):
        segment_volume(manifest, {"fold-0": bright("fold-0")}, head(slice(0, 0)))
