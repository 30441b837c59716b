"""Imported nnU-Nets give nnU-Net's own labels, and are linted, built and verified as any other."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from models.building import build_model, verify_build
from models.building.network_modules import save_network
from models.importing import Said, import_nnunet
from models.manifest import Manifest, lint_manifest
from models.runtime.networks import Network
from models.runtime.pipeline import Pipeline
from models.runtime.torch_network import TorchScores
from tests.builders.exporter_warnings import EXPORTER_WARNS
from tests.builders.nnunet_cases import Case, unpacked
from tests.parity.nnunet_cases import CASES

pytestmark = EXPORTER_WARNS

# So many of a scan's voxels may be of a class here and not there: nnU-Net adds up tiles in half
# precision. Where it is made to do so in single precision, no more than another processor rounds.
DIFFERING = 1e-4
BY_ROUNDING = 2


def _silent(step: str) -> None:
    """Report to nobody."""


def imported(case: Case, into: Path, modality: str) -> Manifest:
    made = import_nnunet(case.folder, Said("balls", into, modality=modality), _silent)
    return lint_manifest(made.folder)


def as_trained(manifest: Manifest, folder: Path, work: Path) -> dict[str, Network]:
    """The networks in torch, float32."""
    networks: dict[str, Network] = {}
    for name, network in manifest.networks.items():
        module = work / f"{name}.pt"
        save_network(network, manifest.head_of(name), folder / network.weights.path, module)
        networks[name] = TorchScores(name, module, network.patch, "f32", "cpu")
    return networks


@pytest.mark.parametrize("name", CASES)
def test_labels_are_nnunets_own(name: str, tmp_path: Path) -> None:
    case = unpacked(name, tmp_path)
    modality = "MR" if name == "old-plans-2d" else ""
    manifest = imported(case, tmp_path / "models", modality)
    networks = as_trained(manifest, tmp_path / "models" / "balls", tmp_path)
    channels = [step.in_ for step in manifest.plan if step.do == "orient"]
    assert set(channels) == set(manifest.roles)
    given = dict(zip(channels, (case.scan, *case.further), strict=True))
    found = Pipeline(manifest, networks, 1).run(given).labels
    assert found is not None
    for number in (0, 1, 2):
        theirs = case.labels == number
        differing = int(((found == number) != theirs).sum())
        assert theirs.sum() > 300, "a class that is hardly there shows nothing"
        assert differing <= DIFFERING * theirs.size, f"{differing} voxels of {number}"
    assert int((found != case.labels_single).sum()) <= BY_ROUNDING


@pytest.mark.parametrize(("name", "fold"), [("ct-two-folds", "1"), ("mr-two-contrasts", "0")])
def test_an_imported_model_is_built_and_verified(name: str, fold: str, tmp_path: Path) -> None:
    case = unpacked(name, tmp_path)
    scan = tmp_path / "scan.nii.gz"
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ case.scan.affine_lps
    nibabel.save(nibabel.Nifti1Image(case.scan.voxels.T, affine), scan)  # pyright: ignore[reportPrivateImportUsage]
    said = Said("balls", tmp_path / "models", case=scan, folds=(fold,))
    made = import_nnunet(case.folder, said, _silent)
    record = build_model(made.folder, "cpu", tmp_path / "built", cache=tmp_path / "cache")
    assert [parity.accepted for parity in record.parity] == [True]
    found = verify_build("balls", record.digest, "cpu", tmp_path / "built")
    assert found.known_answer_dice == 1.0
