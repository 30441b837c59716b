"""Published files come whole or not at all: from a server over TLS, a mirror, a folder."""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from models.building.errors import FetchError
from models.building.fetching import fetch_source_file, source_in_words
from models.building.sources import (
    FolderSource,
    GitFileSource,
    PublishedFile,
    UrlSource,
    downloading,
    fetch_file,
    fetch_files,
    pin_file,
)
from models.manifest import Manifest
from models.manifest.networks import FolderFiles
from tests.builders.certificates import Authority
from tests.builders.scans import listed_weights, shared_data

CATALOGUE = Path(__file__).resolve().parents[3] / "models" / "catalogue"
CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = PublishedFile(path="sub/weights.pt", bytes=len(CONTENT), sha256=SHA256)


@dataclass
class Public:
    """A server of one file, and how it misbehaves; `asked`: each request's range, or none."""

    port: int
    content: bytes = CONTENT
    # The connection ends after so many bytes, for so many requests.
    breaks_after: int | None = None
    broken: int = 0
    ranges: bool = True
    answers: list[int] = field(default_factory=list[int])
    leads_to: str = ""
    says_length: bool = True
    asked: list[str] = field(default_factory=list[str])

    def source(self, *files: PublishedFile) -> UrlSource:
        return UrlSource(
            kind="url",
            name="example",
            url=f"https://localhost:{self.port}/",
            licence="MIT",
            files=files or (FILE,),
        )


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Public]:
    authority = Authority(tmp_path / "authority")
    signed = authority.sign("server", kind="ec")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setattr(downloading, "_WAIT_S", 0.0)
    public = Public(0)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            public.asked.append(asked)
            if public.answers:
                self.send_error(public.answers.pop(0))
                return
            if public.leads_to and self.path != "/there":
                self.send_response(302)
                self.send_header("Location", public.leads_to)
                self.end_headers()
                return
            start = int(asked[6:-1]) if asked and public.ranges else 0
            whole = len(public.content)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            if public.says_length:
                self.send_header("Content-Length", str(whole - start))
            self.end_headers()
            body = public.content[start:]
            if public.breaks_after is not None and public.broken > 0:
                public.broken -= 1
                body = body[: public.breaks_after]
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed.certificate, signed.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    public.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield public
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_comes_once_and_then_from_the_cache(public: Public, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    place = fetch_file(
        public.source(), FILE, tmp_path / "cache", arrived=lambda *now: told.append(now)
    )
    assert place.read_bytes() == CONTENT
    assert place == tmp_path / "cache" / "files" / SHA256 / "weights.pt"
    assert told[-1] == ("sub/weights.pt", len(CONTENT), len(CONTENT))
    assert [there for _, there, _ in told] == sorted(there for _, there, _ in told)
    assert len({there for _, there, _ in told}) > 2
    again = fetch_files(public.source(), tmp_path / "cache")
    assert again == {"sub/weights.pt": place}
    assert len(public.asked) == 1


def test_a_download_that_breaks_goes_on_where_it_ended(public: Public, tmp_path: Path) -> None:
    public.breaks_after, public.broken = 100_000, 2
    place = fetch_file(public.source(), FILE, tmp_path / "cache")
    assert place.read_bytes() == CONTENT
    assert public.asked == ["", "bytes=100000-", "bytes=200000-"]


def test_a_later_try_goes_on_too(public: Public, tmp_path: Path) -> None:
    public.breaks_after, public.broken = 50_000, 100
    with pytest.raises(FetchError, match=r"ended after 200000 of 512000 bytes"):
        fetch_file(public.source(), FILE, tmp_path / "cache")
    public.broken = 0
    assert fetch_file(public.source(), FILE, tmp_path / "cache").read_bytes() == CONTENT
    assert public.asked[-1] == "bytes=200000-"


def test_a_server_that_cannot_go_on_sends_all_again(public: Public, tmp_path: Path) -> None:
    public.breaks_after, public.broken, public.ranges = 100_000, 1, False
    assert fetch_file(public.source(), FILE, tmp_path / "cache").read_bytes() == CONTENT


def test_what_came_of_another_file_is_noticed_and_removed(public: Public, tmp_path: Path) -> None:
    public.content = CONTENT[:-1] + b"!"
    found = hashlib.sha256(public.content).hexdigest()
    with pytest.raises(FetchError) as raised:
        fetch_file(public.source(), FILE, tmp_path / "cache")
    for part in ("example", "sub/weights.pt", SHA256, found, "Do not use it"):
        assert part in str(raised.value)
    assert [file.name for file in (tmp_path / "cache" / "files" / SHA256).iterdir()] == [".lock"]
    public.content = CONTENT
    assert fetch_file(public.source(), FILE, tmp_path / "cache").read_bytes() == CONTENT


@pytest.mark.parametrize("says_length", [True, False])
def test_never_more_is_written_than_was_expected(
    public: Public, tmp_path: Path, says_length: bool
) -> None:
    public.content, public.says_length = CONTENT + b"more", says_length
    with pytest.raises(FetchError, match=r"512004 bytes, expected are 512000|more than the 512000"):
        fetch_file(public.source(), FILE, tmp_path / "cache")
    folder = tmp_path / "cache" / "files" / SHA256
    assert all(file.stat().st_size <= len(CONTENT) for file in folder.iterdir())
    assert len(public.asked) == 1


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(
    public: Public, tmp_path: Path
) -> None:
    public.answers = [503, 429]
    assert fetch_file(public.source(), FILE, tmp_path / "cache").read_bytes() == CONTENT
    public.answers, public.asked = [404, 404], []
    other = FILE.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(FetchError, match=r"HTTP 404\. Try again, or put the file into a mirror"):
        fetch_file(public.source(), other, tmp_path / "cache")
    assert len(public.asked) == 1


def test_a_redirect_is_followed_to_a_listed_host_only(public: Public, tmp_path: Path) -> None:
    public.leads_to = f"https://127.0.0.1:{public.port}/there"
    with pytest.raises(FetchError, match=r"leads to https://127\.0\.0\.1, and only .*localhost"):
        fetch_file(public.source(), FILE, tmp_path / "cache")
    listed = public.source().model_copy(update={"also_from": ("127.0.0.1",)})
    assert fetch_file(listed, FILE, tmp_path / "cache").read_bytes() == CONTENT


def test_a_redirect_away_from_tls_is_not_followed(public: Public, tmp_path: Path) -> None:
    public.leads_to = f"http://localhost:{public.port}/there"
    with pytest.raises(FetchError, match=r"leads to http://localhost"):
        fetch_file(public.source(), FILE, tmp_path / "cache")


def test_a_server_with_another_certificate_is_not_believed(
    public: Public, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority(tmp_path / "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.certificate))
    with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_file(public.source(), FILE, tmp_path / "cache")


def test_an_altered_file_in_the_cache_is_fetched_again(public: Public, tmp_path: Path) -> None:
    place = fetch_file(public.source(), FILE, tmp_path / "cache")
    place.write_bytes(CONTENT[:-1] + b"!")
    assert fetch_file(public.source(), FILE, tmp_path / "cache").read_bytes() == CONTENT
    assert len(public.asked) == 2


@pytest.mark.parametrize("path", ["sub/weights.pt", "weights.pt"])
def test_a_mirror_is_asked_before_the_network(public: Public, tmp_path: Path, path: str) -> None:
    file = tmp_path / "mirror" / "example" / path
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    place = fetch_file(public.source(), FILE, tmp_path / "cache", mirror=tmp_path / "mirror")
    assert place.read_bytes() == CONTENT
    assert public.asked == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(CONTENT[:-1], "has 511999 bytes, expected are 512000"), (CONTENT[::-1], "has SHA-256 ")],
)
def test_a_mirror_with_another_file_is_named(
    public: Public, tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "mirror" / "example" / "weights.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(FetchError, match=rf"{re.escape(str(file))} {reason}"):
        fetch_file(public.source(), FILE, tmp_path / "cache", mirror=tmp_path / "mirror")


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_without_a_hash_is_pinned_once(
    public: Public, tmp_path: Path, says_length: bool
) -> None:
    public.says_length = says_length
    assert pin_file(public.source(), FILE.path, tmp_path / "cache", limit=1 << 20) == FILE
    assert fetch_file(public.source(), FILE, tmp_path / "cache").read_bytes() == CONTENT
    assert len(public.asked) == 1


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_larger_than_allowed_is_not_pinned(
    public: Public, tmp_path: Path, says_length: bool
) -> None:
    public.says_length = says_length
    with pytest.raises(FetchError, match="more than the 100000 bytes that are allowed"):
        pin_file(public.source(), FILE.path, tmp_path / "cache", limit=100_000)
    assert [one.name for one in (tmp_path / "cache").rglob("*") if one.is_file()] == [".lock"]


def test_half_a_file_is_not_pinned(public: Public, tmp_path: Path) -> None:
    public.breaks_after, public.broken = 100_000, 1
    with pytest.raises(FetchError, match="ended after 100000 of 512000 bytes"):
        pin_file(public.source(), FILE.path, tmp_path / "cache", limit=1 << 20)


def test_a_folder_of_this_machine_is_a_source(tmp_path: Path) -> None:
    source = FolderSource(
        kind="folder", name="ours", folder=str(tmp_path), licence="our own", files=(FILE,)
    )
    with pytest.raises(FetchError, match=rf"sub/weights\.pt is not in the folder .*{SHA256}"):
        fetch_file(source, FILE, tmp_path / "cache")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.pt").write_bytes(CONTENT)
    assert fetch_file(source, FILE, tmp_path / "cache").read_bytes() == CONTENT


def test_the_shared_data_are_a_mirror_of_repositories(tmp_path: Path) -> None:
    if not (shared_data() / "hippodeep").is_dir():
        pytest.skip("needs the published weights in the folder that AXIAL_SHARED names")
    listed = listed_weights()["hippodeep"]
    files = tuple(
        PublishedFile(
            path=one.source,
            bytes=(shared_data() / "hippodeep" / one.name).stat().st_size,
            sha256=one.sha256,
        )
        for one in listed.files
    )
    source = GitFileSource(
        kind="git-file",
        name="hippodeep",
        repository=listed.repository,
        commit=listed.commit,
        licence="MIT",
        files=files,
    )
    found = fetch_files(source, tmp_path / "cache", mirror=shared_data())
    assert found["torchparams/hippodeep.pt"].name == "hippodeep.pt"
    assert source.address(files[0].path) == (
        f"https://raw.githubusercontent.com/bthyreau/hippodeep_pytorch/{listed.commit}/"
        "torchparams/hippodeep.pt"
    )


@pytest.mark.parametrize("path", ["../weights.pt", "/etc/passwd", "a/../../b", "."])
def test_a_path_that_leaves_the_source_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="no path inside the source"):
        PublishedFile(path=path, bytes=1, sha256=SHA256)


@pytest.mark.parametrize("url", ["http://a.example/", "file:///etc/", "https://u:p@a.example/x"])
def test_an_address_that_is_not_plain_https_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="no plain https address"):
        UrlSource(kind="url", name="x", url=url, licence="MIT", files=(FILE,))


def test_a_file_beside_the_manifest_is_the_one_pinned_or_refused(tmp_path: Path) -> None:
    data = yaml.safe_load((CATALOGUE / "brain-extraction" / "model.yaml").read_text())
    data["sources"]["beside"] = {
        "kind": "folder",
        "licence": "MIT",
        "files": [FILE.model_dump()],
    }
    manifest = Manifest.model_validate(data)
    model, cache = tmp_path / "model", tmp_path / "cache"
    with pytest.raises(FetchError, match="is not in the folder"):
        fetch_source_file(model, manifest, "beside", FILE.path, cache)
    (model / "sub").mkdir(parents=True)
    (model / FILE.path).write_bytes(CONTENT[::-1])
    with pytest.raises(FetchError, match="Do not use it"):
        fetch_source_file(model, manifest, "beside", FILE.path, cache)
    (model / FILE.path).write_bytes(CONTENT)
    found = fetch_source_file(model, manifest, "beside", FILE.path, cache)
    assert found.read_bytes() == CONTENT
    assert source_in_words(manifest, "beside") == "the model's folder"


@pytest.mark.parametrize("path", ["/etc/weights.pt", "../other/weights.pt", "sub/../../w.pt", "."])
def test_a_file_beside_the_manifest_stays_in_the_models_folder(path: str) -> None:
    file = {**FILE.model_dump(), "path": path}
    with pytest.raises(ValidationError, match="does not stay in the model's folder"):
        FolderFiles.model_validate({"kind": "folder", "licence": "MIT", "files": [file]})
