"""Shared memory that a dead model process left behind.

Triton's Python backend shares a region of memory with the process of each model, sized for the
largest volume that went through it. When that process is killed (it is the first that a machine
short of memory ends), Triton keeps the region for ever, also when the model is loaded again. On
the machine where Triton runs such a region is found, its memory is given back and its name removed.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from services.common.telemetry import get_logger

_log = get_logger("common")

_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies on Linux
_NAMES = "triton_python_backend_shm_region_*"
_SERVER = "tritonserver"
_STUB = "triton_python_backend_stub"
# Between making a region and starting the process that it is for, Triton takes milliseconds.
_SURELY_STARTED_S = 5.0
# So long after it was found, no request that the dead process left unanswered holds memory in it.
_UNANSWERED_FOR_S = 15.0
# Name -> when it was first found dead.
_found: dict[str, float] = {}
# At its beginning lies what the two processes signal each other with, and threads of the server
# still wait there; behind it lie tensors, and nobody will look at those again.
_CONTROL_BYTES = 1 << 20
# linux/falloc.h
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_LIBC = ctypes.CDLL(None, use_errno=True)


def free_left_regions() -> int:
    """Gives back the regions of model processes that died on this machine; returns their number.

    Only regions that a Triton maps which this process may see: in a container without Triton
    nothing is known of who lives, and nothing is done.
    """
    freed = 0
    for region in _left(_regions_of_servers(), _named_by_stubs()):
        with suppress(OSError):  # gone meanwhile, or not ours
            _give_back(region)
            region.unlink()
            freed += 1
    if freed:
        _log.warning("model_memory_freed", regions=freed)
    return freed


def close_to_others() -> None:
    """Takes every other user's right to read from the regions of this user's models.

    The backend makes regions readable for all, whatever the process's umask is. To be called before
    a volume goes into a region; who opened the region in the milliseconds after it was made keeps
    it open.
    """
    for region in _FOLDER.glob(_NAMES):
        with suppress(OSError):  # gone meanwhile, or another user's
            if region.stat().st_mode & 0o077 and region.stat().st_uid == os.geteuid():
                region.chmod(0o600)


def sweep_after_server() -> int:
    """Removes regions that no living process maps, once a Triton has ended; returns their number.

    For who started the Triton, on the machine itself: all processes must be in sight.
    """
    mapped = _regions_mapped_by(psutil.process_iter())
    removed = 0
    for region in _FOLDER.glob(_NAMES):
        with suppress(OSError):
            if (
                region.name not in mapped
                and _is_old(region)
                and region.stat().st_uid == os.geteuid()
            ):
                region.unlink()
                removed += 1
    return removed


def _left(of_servers: set[str], of_stubs: set[str]) -> Iterable[Path]:
    for name in sorted(of_servers - of_stubs):
        region = _FOLDER / name
        with suppress(OSError):
            if _is_old(region):
                found_at = _found.setdefault(name, time.monotonic())
                if time.monotonic() - found_at >= _UNANSWERED_FOR_S:
                    yield region


def _is_old(region: Path) -> bool:
    return time.time() - region.stat().st_ctime > _SURELY_STARTED_S


def _regions_of_servers() -> set[str]:
    return _regions_mapped_by(
        process for process in psutil.process_iter(["name"]) if process.info["name"] == _SERVER
    )


def _regions_mapped_by(processes: Iterable[psutil.Process]) -> set[str]:
    prefix = _NAMES.rstrip("*")
    found: set[str] = set()
    for process in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
                _, _, path = line.rpartition(f"{_FOLDER}/")
                if path.startswith(prefix):
                    found.add(path.removesuffix(" (deleted)"))
    return found


def _named_by_stubs() -> set[str]:
    """The regions of living model processes: each has its region's name among its arguments."""
    prefix = _NAMES.rstrip("*")
    named: set[str] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if words and words[0].endswith(_STUB) and process.status() != psutil.STATUS_ZOMBIE:
                named |= {word for word in words if word.startswith(prefix)}
    return named


def _give_back(region: Path) -> None:
    """Takes the pages behind the control part out of a region; its size stays as it is.

    Raises:
        OSError: the region cannot be opened or changed.
    """
    descriptor = os.open(region, os.O_RDWR | os.O_CLOEXEC)
    try:
        rest = os.fstat(descriptor).st_size - _CONTROL_BYTES
        if rest > 0:
            start, length = ctypes.c_longlong(_CONTROL_BYTES), ctypes.c_longlong(rest)
            if _LIBC.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, start, length):
                raise OSError(ctypes.get_errno(), "fallocate")
    finally:
        os.close(descriptor)
