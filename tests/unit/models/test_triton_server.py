"""The local Triton: loopback, explicit model control, our own backend folder."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from models.building import TritonDoor, triton_server
from models.building.errors import FetchError, TargetMissingError
from models.building.triton_server import python_library_folder, tritonserver_command

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pytriton") is None,
    reason="needs nvidia-pytriton, which carries the Triton server",
)


def command(tmp_path: Path, **how: Any) -> tuple[list[str], dict[str, str]]:
    return tritonserver_command(
        tmp_path / "repository",
        ["a", "b"],
        TritonDoor(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt", "sesame"),
        grpc_port=2,
        metrics_port=3,
        cache=tmp_path / "cache",
        threads=2,
        **how,
    )


def test_every_address_is_loopback(tmp_path: Path) -> None:
    argv, _ = command(tmp_path)
    for service in ("grpc", "metrics"):
        assert f"--{service}-address=127.0.0.1" in argv
    assert {"--grpc-port=2", "--metrics-port=3"} <= set(argv)


def test_http_is_off_and_nothing_can_open_it(tmp_path: Path) -> None:
    """It has no TLS, and every user of the machine reads the key on this command line."""
    argv, _ = command(tmp_path)
    options = [word for word in argv if "http" in word.partition("=")[0]]
    assert options == ["--allow-http=false"]
    assert not any("http" in name for name in inspect.signature(tritonserver_command).parameters)


def test_only_named_models_are_loaded(tmp_path: Path) -> None:
    argv, _ = command(tmp_path)
    assert "--model-control-mode=explicit" in argv
    assert [word for word in argv if word.startswith("--load-model")] == [
        "--load-model=a",
        "--load-model=b",
    ]


def test_the_installed_server_is_left_as_it_is(tmp_path: Path) -> None:
    argv, _ = command(tmp_path)
    server = Path(argv[0]).parents[1]
    before = sorted(str(path) for path in server.rglob("*"))
    backends = tmp_path / "cache" / "triton-backends"
    assert f"--backend-directory={backends}" in argv
    stub = backends / "python" / "triton_python_backend_stub"
    assert os.access(stub, os.X_OK)
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in str(stub.resolve())
    assert (backends / "python" / "libtriton_python.so").resolve().is_file()
    command(tmp_path)
    assert sorted(str(path) for path in server.rglob("*")) == before


def test_the_stub_finds_this_python_and_these_packages(tmp_path: Path) -> None:
    _, environment = command(tmp_path)
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.prefix) / "bin")
    roots = environment["PYTHONPATH"].split(os.pathsep)
    assert any((Path(root) / "models" / "runtime").is_dir() for root in roots)
    assert any((Path(root) / "axial" / "v1").is_dir() for root in roots)
    library = Path(environment["LD_LIBRARY_PATH"])
    assert list(library.glob("libpython3.*.so.1.0"))
    assert "PYTHONHOME" not in environment


def test_a_missing_library_is_copied_from_debians_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_server, "_library_folders", list[Path])
    fetched: list[Path] = []

    def download(unpacked: Path) -> None:
        fetched.append(unpacked)
        folder = unpacked / "usr" / "lib" / "x86_64-linux-gnu"
        folder.mkdir(parents=True)
        (folder / triton_server._LIBPYTHON).touch()  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(triton_server, "_download_debian_library", download)
    folder = python_library_folder(tmp_path)
    assert folder == (tmp_path / "libpython/usr/lib/x86_64-linux-gnu").absolute()
    assert python_library_folder(tmp_path) == folder
    assert len(fetched) == 1


def test_a_library_that_cannot_be_had_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_server, "_library_folders", list[Path])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="Install Debian's libpython3"):
        python_library_folder(tmp_path)


def test_a_missing_server_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_server.importlib.util, "find_spec", {}.get)
    with pytest.raises(TargetMissingError, match="pip install --no-deps nvidia-pytriton"):
        command(tmp_path)
