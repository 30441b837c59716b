"""State dicts and nnU-Net's checkpoints: tensors come back, and code is never run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.building.errors import WeightsError
from models.building.weights import (
    read_nnunet_checkpoint,
    read_safetensors,
    read_state_dict,
    read_torchscript,
)

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.zeros(2)}


class Harmful:
    """What a stranger's file may hold: a call that is made when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[list[str]]]:
        # PyTorch writes the name that Python 2 had for it: commands.call.
        return subprocess.call, (["touch", str(self.file)],)


def test_tensors_come_back_by_name(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "state.pt")
    found = read_state_dict(tmp_path / "state.pt")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], one) for name, one in STATE.items())


def test_a_part_of_a_larger_file_is_read_when_it_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": {"state": STATE}}, tmp_path / "state.pt")
    assert read_state_dict(tmp_path / "state.pt", ("model", "state")).keys() == STATE.keys()
    with pytest.raises(WeightsError, match=r"epoch, model are no tensors"):
        read_state_dict(tmp_path / "state.pt")
    with pytest.raises(WeightsError, match=r"has no weights. There are: epoch, model"):
        read_state_dict(tmp_path / "state.pt", ("weights",))


@pytest.mark.parametrize("read", [read_state_dict, read_nnunet_checkpoint])
def test_code_in_a_file_is_named_and_not_run(tmp_path: Path, read: Any) -> None:
    harm = tmp_path / "harm"
    torch.save({**STATE, "network_weights": STATE, "x": Harmful(harm)}, tmp_path / "state.pt")
    with pytest.raises(WeightsError, match=r"names the code commands\.call"):
        read(tmp_path / "state.pt")
    assert not harm.exists()


def test_a_torchscript_archive_is_called_so(tmp_path: Path) -> None:
    module = torch.jit.script(torch.nn.Linear(2, 2))  # pyright: ignore[reportPrivateImportUsage]
    torch.jit.save(module, str(tmp_path / "net.pt"))  # pyright: ignore[reportPrivateImportUsage]
    with pytest.raises(WeightsError, match="TorchScript archive"):
        read_state_dict(tmp_path / "net.pt")
    assert read_torchscript(tmp_path / "net.pt")(torch.zeros(1, 2)).shape == (1, 2)


@pytest.mark.parametrize("read", [read_state_dict, read_safetensors, read_torchscript])
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, read: Any) -> None:
    (tmp_path / "state.pt").write_bytes(b"not weights at all, but some text of a proxy")
    with pytest.raises(WeightsError, match=r"state\.pt"):
        read(tmp_path / "state.pt")


def test_safetensors_come_back_by_name(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "state.safetensors")
    found = read_safetensors(tmp_path / "state.safetensors")
    assert all(torch.equal(found[name], one) for name, one in STATE.items())


def _checkpoint(**other: Any) -> dict[str, Any]:
    """As nnU-Net v2 saves one, NumPy's scalars in its logs and arguments."""
    return {
        "network_weights": STATE,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
        "grad_scaler_state": {"scale": 65536.0},
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float32(0.75)],
            "epoch_end_timestamps": [1700000000.5],
            "lrs": [np.float16(0.5), np.int64(3), np.bool_(True)],
        },
        "_best_ema": np.float64(0.8),
        "current_epoch": 1000,
        "init_args": {
            "plans": {"dataset_name": "Dataset001", "spacing": [np.float64(1.5)]},
            "configuration": "3d_fullres",
            "fold": np.int64(2),
            "dataset_json": {"labels": {"background": 0}},
            "device": torch.device("cuda"),
        },
        "trainer_name": "nnUNetTrainerNoMirroring",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **other,
    }


def test_a_checkpoint_of_nnunet_is_read_with_its_numpy_scalars(tmp_path: Path) -> None:
    torch.save(_checkpoint(), tmp_path / "checkpoint_final.pth")
    found = read_nnunet_checkpoint(tmp_path / "checkpoint_final.pth")
    assert found.weights.keys() == STATE.keys()
    assert (found.trainer, found.configuration) == ("nnUNetTrainerNoMirroring", "3d_fullres")
    assert (found.fold, found.mirroring) == (2, (0, 1, 2))


def test_numpy_one_wrote_the_same_scalars_under_other_names(tmp_path: Path) -> None:
    torch.save(_checkpoint(), tmp_path / "checkpoint_final.pth")
    content = (tmp_path / "checkpoint_final.pth").read_bytes()
    assert b"numpy._core.multiarray" in content
    old = tmp_path / "old.pth"
    torch.save(_checkpoint(), old, _use_new_zipfile_serialization=False)
    old.write_bytes(old.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_nnunet_checkpoint(old).fold == 2


def test_all_folds_and_unsaid_mirroring_are_kept_apart(tmp_path: Path) -> None:
    other = _checkpoint(inference_allowed_mirroring_axes=None)
    other["init_args"] |= {"fold": "all"}
    torch.save(other, tmp_path / "c.pth")
    found = read_nnunet_checkpoint(tmp_path / "c.pth")
    assert (found.fold, found.mirroring) == ("all", None)


def test_scalars_are_allowed_in_nnunets_checkpoints_only(tmp_path: Path) -> None:
    torch.save(_checkpoint(), tmp_path / "c.pth")
    read_nnunet_checkpoint(tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=r"names the code numpy\._core\.multiarray\.scalar"):
        read_state_dict(tmp_path / "c.pth", ("network_weights",))


def test_weights_of_another_program_are_no_checkpoint_of_nnunet(tmp_path: Path) -> None:
    torch.save({"network_weights": STATE}, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="no trainer_name and init_args"):
        read_nnunet_checkpoint(tmp_path / "c.pth")
