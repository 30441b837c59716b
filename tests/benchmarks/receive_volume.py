"""A CT of 300 slices from files to a sorted int16 volume with its affine, beside other readers.

All read the same shuffled files of 0.5 MB from the page cache, and give the same voxels, which is
checked. dcm2niix (`dcm2niix -z n`) also writes them, as a NIfTI file: it has no other way to give
them. SimpleITK and dicomsdl are measured where their wheels are installed; dicomsdl's figure has
a hand-written loop around it that knows the order and the geometry of these very files.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from services.common.identity import derived_uid
from services.imaging import Volume, read_series
from tests.benchmarks.rows import Row

_SHAPE = (300, 512, 512)
_REPEATS = 7
_VS_PYDICOM, _VS_DCM2NIIX = 4.0, 1.0
# The interpreter's arenas, threads' stacks and headers, beside the volume itself.
_PEAK = 1.15
# Peers that are only reported.
_ANY = 0.0

Read = Callable[[list[Path]], Any]


def rows() -> list[Row]:
    """Measures all readers in turn, in one run."""
    with tempfile.TemporaryDirectory(prefix="axial-bench-") as folder:
        files = _write_series(Path(folder) / "ct")
        readers: dict[str, Read] = {"ours": _ours, "pydicom": _pydicom, "dcm2niix": _dcm2niix}
        readers |= _where_installed()
        seconds = _in_turn(readers, files)
        _same_voxels(files)
        peak_mib = _peak_mib(files)
    ours = seconds.pop("ours")
    targets = {"pydicom": _VS_PYDICOM, "dcm2niix": _VS_DCM2NIIX}
    volume_mib = 2 * np.prod(_SHAPE).item() / 2**20
    return [
        *(
            Row(
                f"receive-volume-vs-{name}",
                ours,
                peer,
                "s",
                peer / ours,
                targets.get(name, _ANY),
                "higher",
            )
            for name, peer in seconds.items()
        ),
        Row(
            "receive-volume-peak",
            peak_mib,
            volume_mib,
            "MiB",
            peak_mib / volume_mib,
            _PEAK,
            "lower",
        ),
    ]


def _ours(files: list[Path]) -> Volume:
    volume = read_series(files)
    assert isinstance(volume, Volume), volume
    return volume


def _pydicom(files: list[Path]) -> NDArray[np.int16]:
    slices = [pydicom.dcmread(file) for file in files]
    slices.sort(key=lambda each: float(each.ImagePositionPatient[2]))
    return np.stack([each.pixel_array.astype(np.int16) for each in slices])


def _dcm2niix(files: list[Path]) -> Path:
    out = files[0].parent.parent / "nii"
    out.mkdir(exist_ok=True)
    for left in out.iterdir():
        left.unlink()
    program = _dcm2niix_program()
    command = [program, "-z", "n", "-b", "n", "-f", "ct", "-o", str(out), str(files[0].parent)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    (image,) = out.glob("*.nii")
    return image


def _dcm2niix_program() -> str:
    """The program itself: the wheel's command starts a Python interpreter before it."""
    import dcm2niix

    return str(dcm2niix.bin)


def _where_installed() -> dict[str, Read]:
    known = {"SimpleITK": _simpleitk, "dicomsdl": _dicomsdl}
    return {name: read for name, read in known.items() if importlib.util.find_spec(name)}


def _simpleitk(files: list[Path]) -> Any:
    itk: Any = importlib.import_module("SimpleITK")  # only where it is installed

    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(files[0].parent)))
    return reader.Execute()


def _dicomsdl(files: list[Path]) -> NDArray[np.int16]:
    dicomsdl: Any = importlib.import_module("dicomsdl")  # it has no types

    volume = np.empty(_SHAPE, np.int16)
    for file in files:
        dataset = dicomsdl.open(str(file))
        k = round(dataset.ImagePositionPatient[2] / 0.7)
        dataset.copyFrameData(0, volume[k].view(np.uint16))
    return volume


def _in_turn(readers: dict[str, Read], files: list[Path]) -> dict[str, float]:
    """Medians; every round runs every reader once, so that all see the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for read in readers.values():
        read(files)  # warm: imports, page cache, plugins
    for _ in range(_REPEATS):
        for name, read in readers.items():
            begun = time.perf_counter()
            given = read(files)
            seconds[name].append(time.perf_counter() - begun)
            del given
    return {name: statistics.median(each) for name, each in seconds.items()}


def _same_voxels(files: list[Path]) -> None:
    volume = _ours(files)
    np.testing.assert_array_equal(volume.array, _pydicom(files))
    image: Any = nibabel.load(_dcm2niix(files))
    # NIfTI's rows run to the front: dcm2niix turns them.
    unscaled = np.asanyarray(image.dataobj.get_unscaled())
    np.testing.assert_array_equal(unscaled.T[:, ::-1], volume.array)


def _peak_mib(files: list[Path]) -> float:
    """What reading adds to a process's peak memory, in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from services.imaging import read_series\n"
        "def peak():\n"
        "    status = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) for line in status if line.startswith('VmHWM'))\n"
        "files = [Path(line.strip()) for line in sys.stdin]\n"
        "read_series(files[:3]); before = peak(); volume = read_series(files)\n"
        "print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(map(str, files)),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    return int(done.stdout) / 1024


def _write_series(folder: Path) -> list[Path]:
    """300 slices of 12 bits in 16, noise over a slope, as instances of one CT series."""
    folder.mkdir(parents=True)
    slices, rows, columns = _SHAPE
    noise = np.random.default_rng(1)
    ramp = np.add.outer(np.arange(rows), np.arange(columns))
    files: list[Path] = []
    order = list(range(slices))
    random.Random(1).shuffle(order)
    for place, k in enumerate(order):
        pixels = (ramp + 2 * k + noise.integers(0, 200, (rows, columns))).astype("<u2")
        files.append(_write_slice(folder / f"{place:04}.dcm", k, pixels))
    return files


def _lengthen_head(data: Dataset) -> None:
    """Makes the head as long as a scanner's: 126 elements and 7 kB, as Philips' CT writes."""
    for block, creator in ((0x0019, "AXIAL BENCH A"), (0x0043, "AXIAL BENCH B")):
        private = data.private_block(block, creator, create=True)
        for place in range(40):
            private.add_new(place, "LO", f"{creator} value of element {place} as scanners write it")


def _write_slice(file: Path, k: int, pixels: NDArray[np.uint16]) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = derived_uid("bench", "ct", k)
    data.file_meta.MediaStorageSOPInstanceUID = UID(data.SOPInstanceUID)
    data.StudyInstanceUID = derived_uid("bench", "study")
    data.SeriesInstanceUID = derived_uid("bench", "series")
    data.FrameOfReferenceUID = derived_uid("bench", "frame")
    data.Modality, data.Manufacturer, data.PatientID = "CT", "Axial", "BENCH-1"
    data.PatientName, data.StudyDate, data.StudyTime = "Bench^CT", "20240131", "120000"
    data.SeriesDescription, data.ImageType = "Thin", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SeriesNumber, data.InstanceNumber, data.KVP = 2, k + 1, "120"
    data.SliceThickness, data.PatientPosition = "0.7", "HFS"
    data.ImagePositionPatient = ["-170.5", "-200.25", f"{0.7 * k:.6f}"]
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.PixelSpacing = ["0.7", "0.7"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "-1024", "1", "HU"
    _lengthen_head(data)
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(file, enforce_file_format=True)
    return file
