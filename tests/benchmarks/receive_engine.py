"""The front door beside dcmtk, Orthanc and the floor: 300 CT slices of 0.5 MB by dcmsend.

Ours has everything on: each instance synced with its directory entry before the answer, then
registered and in the store. storescp and Orthanc do not sync. Each repetition sends one set of
files to every server in turn; ratios are of the medians. The sender has TCP_NODELAY on but in the
rows that say otherwise.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from services.common.identity import derived_uid
from tests.benchmarks.receive_servers import Floor, Orthanc, Ours, Server, Storescp
from tests.benchmarks.rows import Row, budget
from tests.benchmarks.scratch import scratch_folders

_INSTANCES, _SIDE = 300, 512
_ASSOCIATIONS = (1, 4, 8)
_REPEATS = 5
_VS_FLOOR, _VS_STORESCP, _VS_ORTHANC, _VS_NODELAY = 0.75, 0.9, 3.0, 0.9
_CPU_S_PER_GB, _RSS_MB = 2.5, 60.0
_IN_STORE_WITHIN_S = 60.0
# Peers that are only reported.
_ANY = 0.0

Rates = dict[tuple[str, int, bool], list[float]]


def rows() -> list[Row]:
    """Measures all servers in turn, in one run."""
    with scratch_folders() as scratch, ExitStack() as running:
        ours = Ours(scratch.folder())
        peers = [kind(scratch.folder()) for kind in (Floor, Storescp, Orthanc)]
        for server in (ours, *peers):
            running.enter_context(server)
        servers = deque([ours, *peers])
        rates: Rates = {}
        cpu: list[float] = []
        files = CtSets(scratch.folder())
        for _ in range(_REPEATS):
            for associations in _ASSOCIATIONS:
                sent = files.next()
                servers.rotate()  # whoever comes first finds the disk busy with the files
                for server in servers:
                    measure = _cpu_of(ours, files, cpu) if server is ours else None
                    rate = _send(server, sent, associations, nodelay=True, around=measure)
                    rates.setdefault((server.name, associations, True), []).append(rate)
                rate = _send(ours, files.next(), associations, nodelay=False)
                rates.setdefault((ours.name, associations, False), []).append(rate)
                _await_in_store(ours, files)
                for server in servers:
                    server.forget()
        rss = [_peak_mb(process) for process in ours.receivers()]
        main = _peak_mb(ours.processes()[0])
    return [
        *_throughput(rates),
        budget("receive-cpu-per-gb", statistics.median(cpu), "s/GB", _CPU_S_PER_GB),
        budget("receive-rss-per-receiver", max(rss), "MB", _RSS_MB),
        budget("receive-rss-main-process", main, "MB", _RSS_MB),
    ]


def _throughput(rates: Rates) -> list[Row]:
    median = {key: statistics.median(values) for key, values in rates.items()}
    found: list[Row] = []
    for peer, target in (
        ("floor", _VS_FLOOR),
        ("storescp", _VS_STORESCP),
        ("orthanc", _VS_ORTHANC),
    ):
        for n in _ASSOCIATIONS:
            ours, theirs = median["axial", n, True], median[peer, n, True]
            wanted = _ANY if peer == "storescp" and n == 1 else target
            name = f"receive-{n}-associations-vs-{peer}"
            found.append(Row(name, ours, theirs, "instances/s", ours / theirs, wanted, "higher"))
    for n in _ASSOCIATIONS:
        nagle, nodelay = median["axial", n, False], median["axial", n, True]
        name = f"receive-{n}-associations-nagle-vs-nodelay"
        found.append(
            Row(name, nagle, nodelay, "instances/s", nagle / nodelay, _VS_NODELAY, "higher")
        )
    return found


def _send(
    server: Server,
    files: list[str],
    associations: int,
    *,
    nodelay: bool,
    around: Callable[[Callable[[], float]], float] | None = None,
) -> float:
    """Instances per second, from the start of the senders to the end of the last one."""
    environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    if nodelay:
        environment["TCP_NODELAY"] = "1"
    portions = [files[start::associations] for start in range(associations)]
    commands = server.senders(portions, environment)

    os.sync()  # what the server before left unsynced is not written during this one's turn

    def run() -> float:
        begun = time.perf_counter()
        senders = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            for command in commands
        ]
        failed = [sender for sender in senders if sender.wait() != 0]
        seconds = time.perf_counter() - begun
        if failed:
            raise RuntimeError(f"Sending to {server.name} failed: {failed[0].args}")
        return len(files) / seconds

    return run() if around is None else around(run)


def _cpu_of(
    ours: Ours, files: CtSets, found: list[float]
) -> Callable[[Callable[[], float]], float]:
    """Measures the CPU time of all our processes until every instance is in the store."""

    def around(run: Callable[[], float]) -> float:
        before = sum(_cpu_s(process) for process in ours.processes())
        rate = run()
        _await_in_store(ours, files)
        after = sum(_cpu_s(process) for process in ours.processes())
        found.append((after - before) / (_INSTANCES * files.size / 1e9))
        return rate

    return around


def _await_in_store(ours: Ours, files: CtSets) -> None:
    deadline = time.monotonic() + _IN_STORE_WITHIN_S
    while not ours.has_in_store(files.sets * _INSTANCES):
        if time.monotonic() > deadline:
            raise RuntimeError("What was acknowledged does not reach the store.")
        time.sleep(0.05)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _peak_mb(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return process.memory_info().rss / 1e6


class CtSets:
    """Sets of CT slices; each set is a series of its own, so that nothing is sent twice."""

    def __init__(self, folder: Path, instances: int = _INSTANCES, side: int = _SIDE) -> None:
        self.folder = folder
        self._instances, self._side = instances, side
        self._random = np.random.default_rng(1)
        self.sets = 0
        self.size = 0

    def next(self) -> list[str]:
        """Writes the next set over the one before."""
        self.sets += 1
        paths: list[str] = []
        for number in range(self._instances):
            path = self.folder / f"{number:04d}.dcm"
            self._slice(number).save_as(path, enforce_file_format=True)
            paths.append(str(path))
        self.size = os.path.getsize(paths[0])  # noqa: PTH202 - paths are text here
        os.sync()
        return paths

    def _slice(self, number: int) -> Dataset:
        data = Dataset()
        data.SOPClassUID = CTImageStorage
        data.SOPInstanceUID = UID(derived_uid("bench", self.sets, number))
        data.StudyInstanceUID = UID(derived_uid("bench study", self.sets))
        data.SeriesInstanceUID = UID(derived_uid("bench series", self.sets))
        data.FrameOfReferenceUID = UID(derived_uid("bench frame", self.sets))
        data.Modality, data.PatientID, data.PatientName = "CT", "BENCH", "Bench^Mark"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.SeriesDescription, data.InstanceNumber = "Bench", number + 1
        data.ImagePositionPatient = [-250, -250, number * 0.5]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.97, 0.97], 0.5
        data.Rows = data.Columns = self._side
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
        values = self._random.integers(0, 4096, self._side * self._side, dtype=np.int16)
        data.PixelData = values.tobytes()
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta = meta
        return pydicom.FileDataset("", data, file_meta=meta)
