"""SEG and SR of a large CT, from labels in memory to the bytes of the file, beside highdicom.

512 x 512 x 300 voxels; 1, 10 and 104 segments that lie apart. The peer builds its objects as a
user of the library does, from data sets of all planes, and pydicom writes them. The floor of a SEG
is what nobody can leave out: its bits packed by numpy, and one write.
"""

from __future__ import annotations

import ctypes
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import highdicom as hd
import numpy as np
import pydicom
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from models.manifest import Manifest
from services.reporting.analysis.analysis import Analysis
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.forms import PLAIN
from tests.benchmarks.rows import Row, budget
from tests.builders.by_highdicom import report_by_highdicom
from tests.builders.reporting import analysis_of, three_segments
from tests.builders.series import small_volume, sound_series

_SHAPE: Final = (300, 512, 512)
_SEGMENTS: Final = (1, 10, 104)
_REPEATS: Final = 3
_FASTER: Final = {1: 2.0, 10: 5.0, 104: 5.0}
# Beside packing the bits and one write; memory beside the labels, in MB; seconds of an SR.
_ABOVE_FLOOR: Final = 2.0
_BESIDE_LABELS_MB: Final = 200.0
_SR_WITHIN_S: Final = 0.5


def rows() -> list[Row]:
    """Measures ours and the peer in turn, in one run."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        files = sound_series(Path(folder) / "dicom", small_volume(_SHAPE))
        sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        for number in _SEGMENTS:
            analysis = analysis_of(files, _blocks(number), _manifest(number))
            found += _segmentation(number, analysis, sources, Path(folder) / "floor")
            if number == _SEGMENTS[-1]:
                found += _report(analysis)
    return found


def _segmentation(
    number: int, analysis: Analysis, sources: Sequence[Dataset], file: Path
) -> list[Row]:
    ours_s, peer_s, floor_s = _in_turn(
        lambda: encode_segmentation(analysis, PLAIN, 1),
        lambda: _by_highdicom(number, analysis, sources),
        lambda: _floor(number, analysis.labels, file),
    )
    name = f"results-seg-{number}-segments"
    peak_mb = _peak_mb(lambda: encode_segmentation(analysis, PLAIN, 1))
    return [
        Row(
            f"{name}-vs-highdicom", ours_s, peer_s, "s", peer_s / ours_s, _FASTER[number], "higher"
        ),
        Row(f"{name}-vs-packing", ours_s, floor_s, "s", ours_s / floor_s, _ABOVE_FLOOR, "lower"),
        budget(f"{name}-memory", peak_mb, "MB", _BESIDE_LABELS_MB),
    ]


def _report(analysis: Analysis) -> list[Row]:
    ours_s, peer_s = _in_turn(
        lambda: encode_report(analysis, PLAIN, 2, Context()),
        lambda: report_by_highdicom(analysis, PLAIN, 2, Context()),
        repeats=1,
    )
    name = f"results-sr-{_SEGMENTS[-1]}-groups"
    return [
        Row(f"{name}-vs-highdicom", ours_s, peer_s, "s", peer_s / ours_s, 1.0, "higher"),
        budget(name, ours_s, "s", _SR_WITHIN_S),
    ]


def _in_turn(*calls: Callable[[], Any], repeats: int = _REPEATS) -> list[float]:
    """The median seconds of each, all warmed up once."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(1 + repeats):
        for place, call in enumerate(calls):
            started = time.perf_counter()
            call()
            if turn:
                times[place].append(time.perf_counter() - started)
    return [statistics.median(each) for each in times]


def _peak_mb(call: Callable[[], Any]) -> float:
    """How far resident memory rises while it is called, its result included."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls left would be used again, unseen
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = _status_kb("VmRSS")
    kept = call()
    peak = _status_kb("VmHWM") - before
    del kept
    return peak * 1024 / 1e6


def _status_kb(key: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split(f"{key}:")[1].split()[0])


def _blocks(number: int) -> NDArray[np.uint8]:
    """Labels with ellipsoids that do not touch: uint8 [k, j, i]."""
    labels = np.zeros(_SHAPE, np.uint8)
    across = {1: (1, 1, 1), 10: (2, 5, 1), 104: (4, 13, 2)}[number]
    sides = [side // count for side, count in zip(_SHAPE, across, strict=True)]
    axes = [np.linspace(-1.05, 1.05, side) ** 2 for side in sides]
    ball = axes[0][:, None, None] + axes[1][:, None] + axes[2] < 1.0
    for place, (a, b, c) in enumerate(np.ndindex(across), start=1):
        at = tuple(
            slice(one * side, (one + 1) * side) for one, side in zip((a, b, c), sides, strict=True)
        )
        labels[at][ball] = place
    return labels


def _manifest(number: int) -> Manifest:
    manifest = three_segments()
    first = manifest.segments[0]
    segments = tuple(
        first.model_copy(update={"number": place, "label": f"Structure {place}"})
        for place in range(1, number + 1)
    )
    return manifest.model_copy(update={"segments": segments})


def _by_highdicom(number: int, analysis: Analysis, sources: Sequence[Dataset]) -> bytes:
    descriptions = [
        SegmentDescription(
            segment_number=place,
            segment_label=f"Structure {place}",
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Brain,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="Peer", version="1", family=codes.DCM.ArtificialIntelligence
            ),
        )
        for place in range(1, number + 1)
    ]
    segmentation = Segmentation(
        source_images=sources,
        pixel_array=analysis.labels,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Peer",
        manufacturer_model_name="Peer",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    buffer = io.BytesIO()
    segmentation.save_as(buffer)
    return buffer.getvalue()


def _floor(number: int, labels: NDArray[np.uint8], file: Path) -> None:
    parts: list[bytes] = []
    for place in range(1, number + 1):
        mask = labels == place
        planes = np.flatnonzero(mask.any(axis=(1, 2)))
        parts.append(np.packbits(mask[planes], bitorder="little").tobytes())
    file.write_bytes(b"".join(parts))
