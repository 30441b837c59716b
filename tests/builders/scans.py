"""The real scans and weights that tests need, and where they come from (tests/data.toml)."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import httpx
import pydicom
from pydicom.uid import UID

CHECKOUT = Path(__file__).resolve().parents[2]
LIST = CHECKOUT / "tests" / "data.toml"
CACHE = CHECKOUT / "build" / "cache" / "scans"
# Files of a repository at a commit, one at a time.
PUBLIC = "https://raw.githubusercontent.com"
ATTEMPTS = 3
# Told of every file that has arrived: its bytes.
Progress = Callable[[int], None]


class ScanError(Exception):
    """A scan cannot be had; the message names the file, the place and the remedy."""


@dataclass(frozen=True, slots=True)
class ScanFile:
    """A file of a scan.

    Attributes:
        source: its name at the source, below the scan's path, or in its archive.
        sop_instance_uid: what it is given instead of its own; empty: it stays as it is.
    """

    sha256: str
    name: str
    source: str
    sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class ScanSource:
    """An entry of the list; see the head of tests/data.toml for what the fields mean."""

    kind: Literal["scan", "weights"]
    name: str
    repository: str
    commit: str
    path: str
    packing: str
    licence: str
    size: int
    files: tuple[ScanFile, ...]

    def url(self, base: str, source: str = "") -> str:
        """Where a file lies; the archive itself where the scan has one."""
        path = self.path if self.packing == "zip" else f"{self.path}/{source}".removeprefix("./")
        return f"{base}/{self.repository}/{self.commit}/{quote(path)}"


def listed_scans(file: Path = LIST) -> Mapping[str, ScanSource]:
    """The list's scans, by name."""
    return _listed(file, "scan")


def listed_weights(file: Path = LIST) -> Mapping[str, ScanSource]:
    """The list's weights, by name."""
    return _listed(file, "weights")


def _listed(file: Path, kind: Literal["scan", "weights"]) -> Mapping[str, ScanSource]:
    written = tomllib.loads(file.read_text(encoding="utf-8")).get(kind, [])
    return {
        one["name"]: ScanSource(
            kind=kind,
            name=one["name"],
            repository=one["repository"],
            commit=one["commit"],
            path=one["path"],
            packing=one["packing"],
            licence=one["licence"],
            size=one["bytes"],
            files=tuple(ScanFile(*line.split()) for line in one["files"].split("\n") if line),
        )
        for one in written
    }


def shared_folder() -> Path:
    """Where archives of the scans may lie already: ``$AXIAL_SHARED``, else beside the checkout."""
    return shared_data() / "dicom"


def shared_data() -> Path:
    """The folder of all shared data; weights lie there as files, a folder for each entry."""
    return Path(os.environ.get("AXIAL_SHARED", CHECKOUT.parent / "shared")) / "data"


def is_there(scan: ScanSource, cache: Path = CACHE) -> bool:
    """Whether the cache has a scan; its files were compared when it got there."""
    return (cache / scan.name).is_dir()


def unpack(scan: ScanSource, cache: Path = CACHE) -> Path | None:
    """The scan's folder in the cache, from the shared folder where it is not there yet.

    Returns:
        The folder; None where neither has it.

    Raises:
        ScanError: the shared folder has other files than the list.
    """
    shared = shared_folder() / f"{scan.name}.tar.xz"
    if scan.kind == "weights":
        shared = shared_data() / scan.name
    with _alone(scan, cache):
        if not is_there(scan, cache) and shared.exists():
            with _staged(scan, cache) as staging:
                _bring(scan, shared, staging)
                for each in scan.files:
                    _require(each, staging / each.name, str(shared))
    return cache / scan.name if is_there(scan, cache) else None


def _bring(scan: ScanSource, shared: Path, staging: Path) -> None:
    if scan.kind == "scan":
        with tarfile.open(shared) as packed:
            packed.extractall(staging.parent, filter="data")
        return
    for each in scan.files:
        place = staging / each.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (shared / each.name).is_file():
            shutil.copyfile(shared / each.name, place)


def fetch(
    scan: ScanSource,
    arrived: Progress,
    cache: Path = CACHE,
    base: str = PUBLIC,
    client: httpx.Client | None = None,
) -> Path:
    """The scan's folder in the cache, from its public place where it is not there yet.

    What came of a try that broke off is not fetched again.

    Args:
        scan: the scan.
        arrived: told of every file.
        cache: the folder of the scans.
        base: the public place.
        client: of the caller; None: a new one.

    Raises:
        ScanError: a file cannot be had, or is another one.
    """
    with _alone(scan, cache), client or httpx.Client(timeout=60, follow_redirects=True) as http:
        if is_there(scan, cache):
            return cache / scan.name
        partly = cache / f".{scan.name}.partly"
        partly.mkdir(parents=True, exist_ok=True)
        archive = _Archive(scan, http, base)
        for each in scan.files:
            place = partly / each.name
            if not place.is_file() or _sha256(place) != each.sha256:
                place.parent.mkdir(parents=True, exist_ok=True)
                content = archive.read(each) if scan.packing == "zip" else None
                if content is None:
                    content = _download(http, scan.url(base, each.source))
                    content = gzip.decompress(content) if scan.packing == "gz" else content
                fresh = place.with_name(f".{place.name}.new")
                fresh.write_bytes(_with_uid(content, each.sop_instance_uid))
                _require(each, fresh, scan.url(base, each.source))
                fresh.replace(place)
            arrived(place.stat().st_size)
        partly.rename(cache / scan.name)
    return cache / scan.name


class _Archive:
    """The archive of a scan that has one, fetched when its first file is asked for."""

    def __init__(self, scan: ScanSource, http: httpx.Client, base: str) -> None:
        self._scan, self._http, self._base = scan, http, base
        self._opened: zipfile.ZipFile | None = None

    def read(self, file: ScanFile) -> bytes:
        """A member's content."""
        if self._opened is None:
            content = _download(self._http, self._scan.url(self._base))
            self._opened = zipfile.ZipFile(io.BytesIO(content))
        return self._opened.read(file.source)


def _download(http: httpx.Client, url: str) -> bytes:
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            answer = http.get(url)
        except httpx.HTTPError as error:
            problem = str(error) or type(error).__name__
            continue
        if answer.is_success:
            return answer.content
        problem = f"HTTP {answer.status_code}"
        if answer.status_code < 500:
            break
    raise ScanError(
        f"{url} cannot be fetched ({problem}). Run the command again where the network reaches it, "
        "or set AXIAL_SHARED to a folder that has the scans."
    )


def _with_uid(content: bytes, uid: str) -> bytes:
    if not uid:
        return content
    data = pydicom.dcmread(io.BytesIO(content))
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    out = io.BytesIO()
    data.save_as(out)
    return out.getvalue()


def _require(file: ScanFile, place: Path, source: str) -> None:
    if not place.is_file():
        raise ScanError(f"{source} does not hold {file.name}. Fetch it again: make test-data")
    found = _sha256(place)
    if found != file.sha256:
        raise ScanError(
            f"{file.name} of {source} has SHA-256 {found}, {LIST.name} says {file.sha256}. "
            "Remove it and run `make test-data` again."
        )


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def _alone(scan: ScanSource, cache: Path) -> Generator[None]:
    """One process at a time brings a scan: tests run in several."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{scan.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _staged(scan: ScanSource, cache: Path) -> Generator[Path]:
    """A folder that becomes the scan's when the context is left without an error."""
    with tempfile.TemporaryDirectory(dir=cache) as staging:
        folder = Path(staging) / scan.name
        yield folder
        folder.rename(cache / scan.name)
