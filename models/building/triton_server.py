"""How the local Triton process is started: its command line and environment, as data.

The server is the binary in the `nvidia-pytriton` wheel. It is used where it lies; what has to
be arranged (the Python backend together with the stub for this interpreter's version, and
libpython, to which the stub is linked) is put into a folder of our own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.building.errors import FetchError, TargetMissingError
from models.manifest import CONTROL_HEADER

__all__ = ["TritonDoor", "python_library_folder", "tritonserver_command"]

# Triton's names for what it can do. All of it but health wants the key: with the right to load a
# model, or to name a region of shared memory, comes the right to run code.
_RESTRICTED: Final = (
    "metadata,inference,shared-memory,model-config,model-repository,statistics,trace,logging"
)

_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_LIBPYTHON: Final = f"libpython{_PYTHON}.so.1.0"
# A stub that compiles networks and runs its self test answers the server after seconds.
_STUB_TIMEOUT_S: Final = 300
# Longer than one inference, so that what is running is answered before the server leaves.
_EXIT_TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True)
class TritonDoor:
    """Who may speak to a Triton.

    A command line can be read by every user of a machine, and so can the key in it: on loopback
    it is the certificates that keep other users out, and the key other components.

    Attributes:
        certificate, key: the server's own, PEM files.
        authority: certificate of who may sign a client's; without one there is no connection.
        control_key: what a client must send to do anything but ask for health.
    """

    certificate: Path
    key: Path
    authority: Path
    control_key: str


def tritonserver_command(
    repository: Path,
    models: Sequence[str],
    door: TritonDoor,
    *,
    grpc_port: int,
    metrics_port: int,
    cache: Path,
    threads: int | None = None,
    idle_release_s: float | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Return argv and the whole environment for a Triton on loopback.

    `models` are loaded at start; others of `repository` may be loaded over the API (explicit
    model control). `door` is who may speak to it over gRPC. HTTP is off: Triton has no TLS for it,
    and whoever reads the key on this command line could load a model there. `cache` is a folder
    of ours for the arranged backend. `threads` is the number of threads a network may use
    (default: the processors this process may run on); a model without a request for
    `idle_release_s` gives its working memory back (default: the runtime's).

    Raises:
        TargetMissingError: the wheel is not installed.
        FetchError: there is no libpython.
    """
    server = _server_folder()
    backends = _arranged_backends(server, cache)
    argv = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository.absolute()}",
        f"--backend-directory={backends}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--allow-http=false",
        *_grpc_arguments(grpc_port, door),
        "--metrics-address=127.0.0.1",
        f"--metrics-port={metrics_port}",
        "--allow-gpu-metrics=false",
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
        "--log-format=ISO8601",
        f"--backend-config=python,stub-timeout-seconds={_STUB_TIMEOUT_S}",
    ]
    environment = _environment(python_library_folder(cache), threads)
    if idle_release_s is not None:
        environment["AXIAL_IDLE_RELEASE_S"] = str(idle_release_s)
    return argv, environment


def _grpc_arguments(port: int, door: TritonDoor) -> list[str]:
    return [
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={door.certificate.absolute()}",
        f"--grpc-server-key={door.key.absolute()}",
        f"--grpc-root-cert={door.authority.absolute()}",
        f"--grpc-restricted-protocol={_RESTRICTED}:{CONTROL_HEADER}={door.control_key}",
    ]


def python_library_folder(cache: Path) -> Path:
    """Return a folder that holds the libpython which the stub is linked to.

    Looked for beside this interpreter and in the system's folders; a Python that was built
    without it gets Debian's package, downloaded and unpacked into `cache` without root.
    """
    unpacked = cache / "libpython"
    for folder in (*_library_folders(), *_unpacked_folders(unpacked)):
        if (folder / _LIBPYTHON).exists():
            return folder
    _download_debian_library(unpacked)
    for folder in _unpacked_folders(unpacked):
        if (folder / _LIBPYTHON).exists():
            return folder.absolute()
    raise FetchError(f"{_LIBPYTHON} is not in Debian's libpython{_PYTHON}. Install it by hand.")


def _server_folder() -> Path:
    found = importlib.util.find_spec("pytriton")
    if found is None or not found.submodule_search_locations:
        raise TargetMissingError(
            "The package nvidia-pytriton, which carries the Triton server, is not installed. "
            "Run `pip install --no-deps nvidia-pytriton`."
        )
    server = Path(next(iter(found.submodule_search_locations))) / "tritonserver"
    if not (server / "bin" / "tritonserver").exists():
        raise TargetMissingError(
            f"{server}/bin/tritonserver does not exist. Reinstall nvidia-pytriton."
        )
    return server


def _arranged_backends(server: Path, cache: Path) -> Path:
    """Link the wheel's Python backend and the stub of our Python version into one folder."""
    stub = server / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
    if not stub.exists():
        raise TargetMissingError(f"{stub} does not exist: no Triton stub for Python {_PYTHON}.")
    backends = (cache / "triton-backends").absolute()
    python = backends / "python"
    python.mkdir(parents=True, exist_ok=True)
    for source in (*(server / "backends" / "python").iterdir(), stub):
        link = python / source.name
        if source.name == stub.name and source != stub:
            continue
        if not link.is_symlink() or link.readlink() != source:
            fresh = python / f".{source.name}.{os.getpid()}"
            fresh.symlink_to(source)
            fresh.replace(link)
    return backends


def _environment(libpython: Path, threads: int | None) -> dict[str, str]:
    """Return this process's environment, arranged for the stub."""
    count = threads or len(os.sched_getaffinity(0))
    environment = dict(os.environ)
    environment.pop("PYTHONHOME", None)
    environment.update(
        # The stub takes its prefix, and so its packages, from the first python3 on the path.
        PATH=os.pathsep.join([str(Path(sys.prefix) / "bin"), environment.get("PATH", "")]),
        LD_LIBRARY_PATH=str(libpython),
        PYTHONPATH=os.pathsep.join(_import_roots()),
        PYTHONDONTWRITEBYTECODE="1",
        AXIAL_INFERENCE_THREADS=str(count),
        # Networks bring their own thread pool; numpy's would only hold memory.
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        # Working memory is kept between requests instead of being mapped anew for each array;
        # the pipeline gives it back when nothing has run for a while.
        MALLOC_ARENA_MAX="2",
        MALLOC_MMAP_THRESHOLD_=str(32 << 20),
        MALLOC_TRIM_THRESHOLD_=str(256 << 20),
    )
    return environment


def _import_roots() -> list[str]:
    """Return the folders from which `models` and the contract's stubs are imported here."""
    roots: list[str] = []
    for package in ("models", "axial"):
        found = importlib.util.find_spec(package)
        places = [] if found is None else list(found.submodule_search_locations or ())
        roots += [str(Path(place).parent) for place in places]
    return list(dict.fromkeys(roots))


def _library_folders() -> Iterable[Path]:
    libdir = sysconfig.get_config_var("LIBDIR") or "/usr/lib"
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for folder in (libdir, f"{libdir}/{multiarch}", f"/usr/lib/{multiarch}", "/usr/lib64"):
        yield Path(folder)


def _unpacked_folders(unpacked: Path) -> list[Path]:
    return sorted(folder for folder in unpacked.glob("usr/lib/*") if folder.is_dir())


def _download_debian_library(unpacked: Path) -> None:
    """Download libpython with apt (no root) and unpack it; FetchError when that fails."""
    unpacked.mkdir(parents=True, exist_ok=True)
    package = f"libpython{_PYTHON}"
    remedy = f"Install Debian's {package}, or use a Python built with --enable-shared."
    try:
        subprocess.run(
            ["apt-get", "download", package],
            cwd=unpacked,
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        for archive in sorted(unpacked.glob(f"{package}_*.deb")):
            subprocess.run(
                ["dpkg", "-x", str(archive), str(unpacked)],
                check=True,
                capture_output=True,
                text=True,
                timeout=60,
            )
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise FetchError(
            f"{_LIBPYTHON} is missing and {package}: {detail.strip()} {remedy}"
        ) from error
