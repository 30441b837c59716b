"""Zip files of trained models, as releases have them: only what an importer reads is unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final

from models.importing.errors import NotImportableError

__all__ = ["unpacked"]

_READ: Final = (
    "plans.json", "dataset.json", "metadata.json", "inference.json", "inference.yaml",
    "inference.yml", "large_files.yml", "large_files.yaml", "large_files.json",
)  # fmt: skip
_WEIGHTS: Final = (".pth", ".pt", ".safetensors")
# No training's files have more, unpacked.
_LARGEST: Final = 32 << 30


@contextmanager
def unpacked(published: Path, work: Path) -> Generator[Path]:
    """Give the folder of published files: itself, or a zip file's content while it is needed.

    Args:
        published: a folder, or a zip file.
        work: a folder that has room.

    Raises:
        NotImportableError: it is neither, or what it holds lies outside it or is too large.
    """
    if published.is_dir():
        yield published
        return
    if not zipfile.is_zipfile(published):
        raise NotImportableError(f"{published} is neither a folder nor a zip file.")
    with TemporaryDirectory(prefix=".unpacking-", dir=work) as folder:
        with zipfile.ZipFile(published) as archive:
            _unpack(archive, published, Path(folder))
        yield Path(folder)


def _unpack(archive: zipfile.ZipFile, published: Path, into: Path) -> None:
    wanted = [
        one
        for one in archive.infolist()
        if PurePosixPath(one.filename).name in _READ or one.filename.endswith(_WEIGHTS)
    ]
    if sum(one.file_size for one in wanted) > _LARGEST:
        raise NotImportableError(f"{published} holds more than {_LARGEST >> 30} GiB.")
    for one in wanted:
        path = PurePosixPath(one.filename)
        if path.is_absolute() or ".." in path.parts:
            raise NotImportableError(f"{published} holds {one.filename}, which leaves its folder.")
        file = into / path
        file.parent.mkdir(parents=True, exist_ok=True)
        left = one.file_size
        with archive.open(one) as packed, file.open("wb") as out:
            # No more than the archive says, whatever it holds.
            while left > 0 and (piece := packed.read(min(left, 1 << 20))):
                out.write(piece)
                left -= len(piece)
