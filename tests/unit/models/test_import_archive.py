"""Zip files of strangers: only what is read comes out, and nothing leaves the folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from models.importing import NotImportableError, archive
from models.importing.archive import unpacked


def zipped(folder: Path, content: dict[str, bytes]) -> Path:
    file = folder / "published.zip"
    with zipfile.ZipFile(file, "w") as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return file


def test_only_what_an_importer_reads_comes_out_and_goes_again(tmp_path: Path) -> None:
    file = zipped(
        tmp_path,
        {
            "D/T/plans.json": b"{}",
            "D/T/fold_0/checkpoint_final.pth": b"weights",
            "D/T/setup.py": b"import os",
            "D/T/postprocessing.pkl": b"pickle",
        },
    )
    with unpacked(file, tmp_path) as folder:
        found = {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}
        assert found == {"D/T/plans.json", "D/T/fold_0/checkpoint_final.pth"}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["../plans.json", "/plans.json", "D/../../dataset.json"])
def test_what_would_leave_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    file = zipped(tmp_path, {name: b"{}"})
    with pytest.raises(NotImportableError, match="leaves its folder"), unpacked(file, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [file]


def test_more_than_any_training_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_LARGEST", 1000)
    file = zipped(tmp_path, {"D/plans.json": b" " * 1001})
    with pytest.raises(NotImportableError, match="holds more than"), unpacked(file, tmp_path):
        pass


def test_a_folder_is_left_where_it_is(tmp_path: Path) -> None:
    with unpacked(tmp_path, tmp_path) as folder:
        assert folder == tmp_path
