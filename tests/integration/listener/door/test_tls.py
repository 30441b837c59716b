"""dcmtk and STOW-RS clients over TLS, at a whole listener."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select

from services.common.database import InstanceRow
from services.listener.door.receiver import MOST_PENDING
from services.listener.service import Listener
from tests.builders.certificates import Authority, Signed
from tests.builders.raw_sender import raw_senders
from tests.builders.series import sound_series
from tests.builders.stow import CONTENT_TYPE, body, open_door
from tests.integration.listener.conftest import OpenListener

# Debian's, not pynetdicom's tools of the same names in the virtual environment.
STORESCU, ECHOSCU = Path("/usr/bin/storescu"), Path("/usr/bin/echoscu")
needs_dcmtk = pytest.mark.skipif(not STORESCU.exists(), reason="needs dcmtk (Debian: dcmtk)")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs both ends' certificates."""
    return Authority(tmp_path / "authority")


def settings(authority: Authority, **changes: Any) -> dict[str, Any]:
    files = authority.door()
    return {
        "port": 0,
        "certificate": files.certificate,
        "key": files.key,
        "trusted_certificates": files.trusted_certificates,
        **changes,
    }


def call(tool: Path, listener: Listener, authority: Authority, own: Signed, *more: object) -> bool:
    """Whether a dcmtk tool did what it was asked for."""
    files = [word for word in more if isinstance(word, Path)]
    options = [word for word in more if not isinstance(word, Path)]
    command = [tool, "+tls", own.key, own.certificate, "+cf", authority.certificate, *options]
    command += ["-aet", "CT1", "-aec", "AXIAL", "127.0.0.1", listener.secure_port, *files]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode == 0


@needs_dcmtk
@pytest.mark.parametrize(
    ("profile", "dcmtk"),
    [
        ("bcp195", "+px"),
        ("bcp195", "+py"),
        ("bcp195_non_downgrading", "+py"),
        ("bcp195_extended", "+pz"),
        ("bcp195_extended", "+py"),
    ],
)
def test_dcmtk_stores_by_each_profile(
    profile: str,
    dcmtk: str,
    open_front_door: OpenListener,
    authority: Authority,
    lite_engine: Engine,
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    with open_front_door(tls=settings(authority, profile=profile)) as listener:
        own = authority.sign("CT 1")
        assert call(ECHOSCU, listener, authority, own, dcmtk)
        assert call(STORESCU, listener, authority, own, dcmtk, *files)
    with lite_engine.connect() as connection:
        assert len(connection.execute(select(InstanceRow.sop_instance_uid)).all()) == len(files)


@needs_dcmtk
def test_who_has_no_certificate_of_ours_gets_no_association(
    open_front_door: OpenListener, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "elsewhere", "Elsewhere").sign("CT 1")
    with open_front_door(tls=settings(authority)) as listener:
        assert not call(ECHOSCU, listener, authority, stranger)
        assert call(ECHOSCU, listener, authority, authority.sign("CT 1"))


@needs_dcmtk
def test_handshakes_that_are_not_done_keep_nobody_out(
    open_front_door: OpenListener, authority: Authority
) -> None:
    with (
        open_front_door(tls=settings(authority, handshake_timeout_s=600)) as listener,
        raw_senders(listener.secure_port or 0, MOST_PENDING + 20) as silent,
    ):
        assert all(sender.is_closed() for sender in silent[:20])
        assert call(ECHOSCU, listener, authority, authority.sign("CT 1"))


@needs_dcmtk
def test_a_pinned_peer_is_served_with_its_certificate_only(
    open_front_door: OpenListener, authority: Authority
) -> None:
    own = authority.sign("CT 1")
    peer = {"name": "CT", "ae_title": "CT1", "certificate_sha256": own.sha256}
    with open_front_door(
        accept_unknown_peers=False, peers=[peer], tls=settings(authority)
    ) as listener:
        assert call(ECHOSCU, listener, authority, own)
        assert not call(ECHOSCU, listener, authority, authority.sign("CT 2"))
        plain = [ECHOSCU, "-aet", "CT1", "-aec", "AXIAL", "127.0.0.1", str(listener.port)]
        assert subprocess.run(plain, capture_output=True, timeout=60, check=False).returncode != 0


@needs_dcmtk
def test_a_listener_renews_its_files_without_a_restart(
    open_front_door: OpenListener, authority: Authority, tmp_path: Path
) -> None:
    own = authority.sign("CT 1")
    given = settings(authority)
    with open_front_door(tls=given) as listener:
        assert call(ECHOSCU, listener, authority, own)
        # Another authority takes over: its signatures count from the next connection on.
        other = Authority(tmp_path / "other", "Other")
        theirs = other.sign("CT 1")
        renewed = other.sign("door")
        pairs = {
            given["certificate"]: renewed.certificate,
            given["key"]: renewed.key,
            given["trusted_certificates"]: other.certificate,
        }
        for place, file in pairs.items():
            staged = Path(f"{place}.new")
            staged.write_bytes(file.read_bytes())
            staged.replace(place)
        assert call(ECHOSCU, listener, other, theirs)
        assert not call(ECHOSCU, listener, other, own)


def test_stow_by_https_with_client_certificates(authority: Authority, tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    content = body(file.read_bytes() for file in files)
    own, other = authority.sign("VNA"), authority.sign("Other")
    peer = {
        "name": "VNA",
        "verbs": ["stow"],
        "addresses": ["127.0.0.1"],
        "certificate_common_name": "VNA",
    }
    closed = {"accept_unknown_peers": False, "peers": [peer]}
    with open_door(tmp_path, files=authority.door(), listener=closed, tls=True) as door:
        assert posted(door.url, authority, own, content) == 200
        assert len(door.told) == len(files)
        assert posted(door.url, authority, other, content) == 403
        with pytest.raises(httpx.TransportError):
            posted(door.url, authority, None, content)


def test_https_renews_its_files_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    content = body(file.read_bytes() for file in sound_series(tmp_path / "dicom")[:1])
    files = authority.door()
    own = authority.sign("VNA")
    with open_door(tmp_path, files=files, tls=True) as door:
        assert posted(door.url, authority, own, content) == 200
        other = Authority(tmp_path / "other", "Other")
        renewed = other.sign("door")
        for place, file in (
            (files.certificate, renewed.certificate),
            (files.key, renewed.key),
            (files.trusted_certificates, other.certificate),
        ):
            staged = Path(f"{place}.new")
            staged.write_bytes(file.read_bytes())
            os.utime(staged, ns=(0, 1))
            staged.replace(place)
        assert posted(door.url, other, other.sign("VNA"), content) == 200
        with pytest.raises(httpx.TransportError):
            posted(door.url, other, own, content)


def posted(url: str, authority: Authority, own: Signed | None, content: bytes) -> int:
    """The status of a request over TLS."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    with httpx.Client(verify=context, timeout=60) as client:
        headers = {"Content-Type": CONTENT_TYPE}
        return client.post(f"{url}/studies", content=content, headers=headers).status_code
