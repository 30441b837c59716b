"""The pipeline in Triton beside deepbet's own run, on one head, one machine, in one run.

Both get the whole head and give a mask on its grid; both are warm; medians. deepbet is measured
by its public API on the NIfTI image in memory (`BrainExtraction.run`), the pipeline by the
client's wall time: one request with the volume in system shared memory, as on one machine.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from axial.v1 import inference_pb2 as pb

from models.building import (
    TargetMissingError,
    build_model,
    fetch_demo_head,
    repository_folder,
)
from models.building.reference_volumes import ReferenceVolume, read_nifti
from models.evaluate import dice
from models.manifest import (
    BuildRecord,
    Precision,
    Target,
    build_folder,
    triton_model_name,
    volume_tensor_name,
)
from models.runtime.assembly import assemble
from models.runtime.source_volume import SourceVolume
from tests.builders.triton import running_triton

CHECKOUT = Path(__file__).resolve().parents[2]
CATALOGUE = CHECKOUT / "models" / "catalogue"
_FOLDER = CATALOGUE / "brain-extraction"
_SPEED_TARGET = 2.0
_DICE_TARGETS = {Precision.F32: 0.999, Precision.BF16: 0.995}
_READY_TIMEOUT_S = 120.0

Row = dict[str, object]
Ask = Callable[[], tuple[np.ndarray, pb.InferenceAnswer]]


def rows(
    *,
    build_root: Path = CHECKOUT / "build" / "models",
    cache: Path = CHECKOUT / "build" / "cache",
    repeats: int = 5,
) -> list[Row]:
    """Measure and return rows `{name, ours, peer, unit, ratio, target, better}`.

    For `better` = "higher" the ratio must reach the target, for "lower" stay below it. Peer of
    "around-networks" is the longest network pass, of "whole-call" all passes together.
    """
    record = build_model(_FOLDER, "cpu", build_root, cache=cache)
    head = read_nifti(fetch_demo_head(cache))
    with (
        _serving(record, build_root, cache) as (client, pid),
        _asking(client, record, head) as ask,
    ):
        (ours_s, peer_s), answers, reference = _in_turn(ask, _deepbet(head), repeats)
        peak_mib = _peak_mib(_children(pid))
    masks = {record.precision: answers[-1][0]}
    for precision in set(_DICE_TARGETS) - {record.precision}:
        masks |= _masked_in(precision, head, build_root, cache)
    said = [answer for _, answer in answers]
    networks_s = _median(sum(network.seconds for network in one.networks) for one in said)
    around_s = _median(sum(stage.seconds for stage in one.stages) for one in said)
    longest_s = _median(max(network.seconds for network in one.networks) for one in said)
    return [
        _row("vs-deepbet-speed", ours_s, peer_s, "s", peer_s / ours_s, _SPEED_TARGET),
        *_dice_rows(masks, reference),
        _row("around-networks", around_s, longest_s, "s", around_s / longest_s, 0.10, "lower"),
        _row("whole-call", ours_s, networks_s, "s", ours_s / networks_s, 1.25, "lower"),
        _row("stub-peak", peak_mib, 1500.0, "MiB", peak_mib / 1500.0, 1.0, "lower"),
    ]


def _dice_rows(masks: dict[Precision, np.ndarray], reference: np.ndarray) -> list[Row]:
    rows_: list[Row] = []
    for precision, mask in sorted(masks.items()):
        agreement = dice(mask, reference)
        name, target = f"dice-{precision.value}", _DICE_TARGETS[precision]
        rows_.append(_row(name, agreement, 1.0, "Dice", agreement, target))
    return rows_


def _masked_in(
    precision: Precision, head: ReferenceVolume, build_root: Path, cache: Path
) -> dict[Precision, np.ndarray]:
    """Run the pipeline of a build in another precision in this process; empty where the
    processor does not have it.
    """
    try:
        record = build_model(
            _FOLDER, "cpu", build_root, precision=precision, cache=cache, serve=False
        )
    except TargetMissingError:
        return {}
    threads = len(os.sched_getaffinity(0))
    folder = build_folder(build_root, Target.CPU, record.model, record.digest)
    pipeline, _ = assemble(folder, threads)
    labels = pipeline.run({"image": SourceVolume(head.pixels, head.affine_lps)}).labels
    return {} if labels is None else {precision: labels}


def _row(
    name: str,
    ours: float,
    peer: float,
    unit: str,
    ratio: float,
    target: float,
    better: str = "higher",
) -> Row:
    return {
        "name": f"whole-pipeline-{name}",
        "ours": ours,
        "peer": peer,
        "unit": unit,
        "ratio": ratio,
        "target": target,
        "better": better,
    }


def _median(seconds: Iterable[float]) -> float:
    return statistics.median(list(seconds))


def _in_turn(
    ours: Ask, peer: Callable[[], np.ndarray], repeats: int
) -> tuple[tuple[float, float], list[tuple[np.ndarray, pb.InferenceAnswer]], np.ndarray]:
    """Warm both up twice, then time them in turn, so that both see the same machine.

    Returns the median wall times in seconds, our answers and the peer's last one.
    """
    times: tuple[list[float], list[float]] = ([], [])
    answers: tuple[list[Any], list[Any]] = ([], [])
    for _ in range(2 + repeats):
        for side, call in enumerate((ours, peer)):
            started = time.perf_counter()
            answers[side].append(call())
            times[side].append(time.perf_counter() - started)
    return (_median(times[0][2:]), _median(times[1][2:])), answers[0][2:], answers[1][-1]


def _deepbet(head: ReferenceVolume) -> Callable[[], np.ndarray]:
    from deepbet.bet import BrainExtraction
    from nibabel.nifti1 import Nifti1Image

    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine_lps
    image = Nifti1Image(head.pixels.transpose(2, 1, 0), affine_ras)
    extraction = BrainExtraction(no_gpu=True)

    def run() -> np.ndarray:
        _, mask, _ = extraction.run(image)
        return np.asarray(mask.dataobj).transpose(2, 1, 0)

    return run


@contextmanager
def _serving(record: BuildRecord, build_root: Path, cache: Path) -> Generator[tuple[Any, int]]:
    """Run a Triton with the built model; gives a client and the server's process id."""
    log = cache / "benchmark-triton.log"
    repository = repository_folder(build_root, Target.CPU)
    with running_triton(repository, [_name(record)], log) as running:
        yield running.client, running.process.pid


@contextmanager
def _asking(client: Any, record: BuildRecord, head: ReferenceVolume) -> Generator[Ask]:
    """Give a call that sends the head through system shared memory and reads the labels."""
    tensor = volume_tensor_name("image", "float32")
    message = pb.InferenceRequest(
        model_digest=record.digest,
        grid_role="image",
        roles=[
            pb.RoleVolume(
                role="image",
                affine_lps=head.affine_lps.ravel().tolist(),
                dtype="float32",
                slope=1.0,
                tensor=tensor,
            )
        ],
    )
    encoded = np.frombuffer(message.SerializeToString(), np.uint8)
    sizes = {"in": head.pixels.nbytes, "out": head.pixels.size}
    regions: dict[str, Any] = {}
    for side, size in sizes.items():
        key = f"/axial-benchmark-{os.getpid()}-{side}"
        regions[side] = shm.create_shared_memory_region(side, key, size)
        client.register_system_shared_memory(side, key, size)

    def ask() -> tuple[np.ndarray, pb.InferenceAnswer]:
        shm.set_shared_memory_region(regions["in"], [head.pixels])
        request = triton.InferInput("REQUEST", list(encoded.shape), "UINT8")
        request.set_data_from_numpy(encoded)
        volume = triton.InferInput(tensor, list(head.pixels.shape), "FP32")
        volume.set_shared_memory("in", sizes["in"])
        labels = triton.InferRequestedOutput("LABELS")
        labels.set_shared_memory("out", sizes["out"])
        outputs = [labels, triton.InferRequestedOutput("ANSWER")]
        result = client.infer(_name(record), [request, volume], outputs=outputs)
        answer = pb.InferenceAnswer.FromString(result.as_numpy("ANSWER").tobytes())
        shape = head.pixels.shape
        return shm.get_contents_as_numpy(regions["out"], np.uint8, shape).copy(), answer

    try:
        yield ask
    finally:
        client.unregister_system_shared_memory()
        for region in regions.values():
            shm.destroy_shared_memory_region(region)


def _name(record: BuildRecord) -> str:
    return triton_model_name(record.model, record.digest)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid:
                found.append(int(folder.name))
    return found


def _peak_mib(pids: list[int]) -> float:
    """Return the largest resident size that any of the processes ever had, in MiB."""
    peaks = [
        int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) for pid in pids
    ]
    return max(peaks) / 1024


if __name__ == "__main__":
    import json
    import sys

    json.dump(rows(), sys.stdout, indent=2)
