"""Scans come whole from where they are to be had, or an error says what to do."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import threading
import zipfile
from collections.abc import Generator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID

from tests.builders import scans
from tests.builders.scans import (
    ScanError,
    ScanSource,
    fetch,
    is_there,
    listed_scans,
    listed_weights,
    unpack,
)
from tests.builders.series import sound_series

COMMIT = "c" * 40


class Public:
    """A public place: files of repositories at commits, and which of them were asked for."""

    def __init__(self, folder: Path, port: int, asked: list[str]) -> None:
        self.folder, self.base, self.asked = folder, f"http://127.0.0.1:{port}", asked

    def put(self, path: str, content: bytes) -> None:
        """Publishes a file of the repository."""
        file = self.folder / "a" / "b" / COMMIT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@pytest.fixture
def public(tmp_path: Path) -> Generator[Public]:
    folder, asked = tmp_path / "public", list[str]()
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield Public(folder, server.server_port, asked)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def images(tmp_path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sound_series(tmp_path / "series")[:3]}


def _listed(tmp_path: Path, packing: str, path: str, lines: list[str]) -> ScanSource:
    """What the list says of a scan, through the list's own form."""
    text = (
        f'[[scan]]\nname = "x"\nrepository = "a/b"\ncommit = "{COMMIT}"\npath = "{path}"\n'
        f'packing = "{packing}"\nlicence = "MIT"\nbytes = 1\nfiles = """\n'
    )
    (tmp_path / "data.toml").write_text(text + "\n".join(lines) + '\n"""\n')
    return listed_scans(tmp_path / "data.toml")["x"]


def _line(name: str, content: bytes, source: str, uid: str = "") -> str:
    return f"{hashlib.sha256(content).hexdigest()} {name} {source} {uid}".strip()


@pytest.mark.parametrize("packing", ["", "gz", "zip"])
def test_files_come_from_their_public_place_in_every_packing(
    public: Public, images: dict[str, bytes], tmp_path: Path, packing: str
) -> None:
    if packing == "zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in images.items():
                archive.writestr(f"in/{name}", content)
        public.put("In/All of it.zip", packed.getvalue())
        lines = [_line(name, content, f"in/{name}") for name, content in images.items()]
        scan = _listed(tmp_path, packing, "In/All of it.zip", lines)
    else:
        for name, content in images.items():
            public.put(f"In/{name}", gzip.compress(content) if packing else content)
        lines = [_line(name, content, name) for name, content in images.items()]
        scan = _listed(tmp_path, packing, "In", lines)
    arrived: list[int] = []
    folder = fetch(scan, arrived.append, tmp_path / "cache", public.base)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == images
    assert sum(arrived) == sum(map(len, images.values()))
    # It is there now, and nobody is asked again.
    asked = len(public.asked)
    assert fetch(scan, arrived.append, tmp_path / "cache", public.base) == folder
    assert len(public.asked) == asked == (1 if packing == "zip" else 3)


def test_a_file_that_is_given_another_uid_is_compared_as_it_then_is(
    public: Public, images: dict[str, bytes], tmp_path: Path
) -> None:
    name, content = next(iter(images.items()))
    data = pydicom.dcmread(io.BytesIO(content))
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    wanted = io.BytesIO()
    data.save_as(wanted)
    public.put(f"In/{name}", content)
    scan = _listed(tmp_path, "", "In", [_line(name, wanted.getvalue(), name, "1.2.3")])
    folder = fetch(scan, len_of_nothing, tmp_path / "cache", public.base)
    assert pydicom.dcmread(folder / name).SOPInstanceUID == "1.2.3"


def len_of_nothing(size: int) -> None:
    """Takes progress and says nothing."""


def test_another_file_than_the_list_says_is_an_error_and_no_scan(
    public: Public, images: dict[str, bytes], tmp_path: Path
) -> None:
    names = list(images)
    for name, content in images.items():
        public.put(f"In/{name}", content if name != names[1] else content[:-2] + b"xx")
    lines = [_line(name, content, name) for name, content in images.items()]
    scan = _listed(tmp_path, "", "In", lines)
    cache = tmp_path / "cache"
    with pytest.raises(ScanError, match=f"{names[1]}.*SHA-256"):
        fetch(scan, len_of_nothing, cache, public.base)
    assert not is_there(scan, cache)
    # Mended at its place it comes, and what had come is not fetched again.
    public.put(f"In/{names[1]}", images[names[1]])
    before = len(public.asked)
    fetch(scan, len_of_nothing, cache, public.base)
    assert is_there(scan, cache)
    assert len(public.asked) == before + 2


def test_a_place_that_has_it_no_more_is_said_with_what_to_do(
    public: Public, images: dict[str, bytes], tmp_path: Path
) -> None:
    lines = [_line(name, content, name) for name, content in images.items()]
    scan = _listed(tmp_path, "", "In", lines)
    with pytest.raises(ScanError, match=r"HTTP 404.*AXIAL_SHARED"):
        fetch(scan, len_of_nothing, tmp_path / "cache", public.base)
    assert len(public.asked) <= 2  # asked once: it will not be there a moment later


def test_a_scan_that_is_nowhere_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: dict[str, bytes]
) -> None:
    monkeypatch.setenv("AXIAL_SHARED", str(tmp_path / "nowhere"))
    lines = [_line(name, content, name) for name, content in images.items()]
    assert unpack(_listed(tmp_path, "", "In", lines), tmp_path / "cache") is None


def test_weights_come_from_the_shared_folder_as_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AXIAL_SHARED", str(tmp_path / "shared"))
    file = tmp_path / "shared" / "data" / "x" / "sub" / "net.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    listed = _listed(tmp_path, "", ".", [_line("sub/net.pt", b"weights", "other/net.pt")])
    weights = dataclasses.replace(listed, kind="weights")
    folder = unpack(weights, tmp_path / "cache")
    assert folder is not None
    assert (folder / "sub" / "net.pt").read_bytes() == b"weights"
    assert weights.url("base", "other/net.pt") == f"base/a/b/{COMMIT}/other/net.pt"
    file.write_bytes(b"changed")
    with pytest.raises(ScanError, match=r"sub/net\.pt"):
        unpack(dataclasses.replace(weights, name="x"), tmp_path / "another")


@pytest.mark.parametrize("name", listed_weights())
def test_listed_weights_of_the_shared_folder_are_as_the_list_says(
    name: str, tmp_path: Path
) -> None:
    if not (scans.shared_data() / name).is_dir():
        pytest.skip("needs the published weights: make test-data")
    assert unpack(listed_weights()[name], tmp_path) is not None


def test_every_listed_scan_of_the_shared_folder_is_as_the_list_says(tmp_path: Path) -> None:
    if not scans.shared_folder().is_dir():
        pytest.skip("needs the real scans: make test-data")
    archives = {file.name.removesuffix(".tar.xz") for file in scans.shared_folder().iterdir()}
    assert archives == set(listed_scans())
    for scan in listed_scans().values():
        assert unpack(scan, tmp_path) is not None
