"""How long a build takes on this machine, and what memory: passes of networks and the work around.

What Triton adds (the volume's way in, the labels' way out) is not in it.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.building.errors import BuildError
from models.building.reference_volumes import ReferenceVolume
from models.manifest import BuildRecord, Target, build_folder

__all__ = ["BuildTimes", "RunTimes", "measure_build"]


@dataclass(frozen=True, slots=True)
class RunTimes:
    """One run of a build, in seconds.

    Attributes:
        whole: from the volumes to the labels on their slices.
        networks: network -> seconds in its passes.
        passes: network -> number of its passes.
        stages: step -> seconds, without the passes in it.
        segments: segment's number -> voxels that were found.
    """

    whole: float
    networks: dict[str, float]
    passes: dict[str, int]
    stages: dict[str, float]
    segments: dict[int, int]

    @property
    def around(self) -> float:
        """Seconds that were spent beside the passes of networks."""
        return self.whole - sum(self.networks.values())


@dataclass(frozen=True, slots=True)
class BuildTimes:
    """What was measured of a build.

    Attributes:
        load_s: until the networks stand ready, and have warmed up in one run that is not counted.
        runs: those that are counted.
        peak_bytes: the most memory that this process had at any time.
    """

    record: BuildRecord
    shape: tuple[int, int, int]
    load_s: float
    runs: tuple[RunTimes, ...]
    peak_bytes: int

    @property
    def median_s(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(run.whole for run in self.runs)

    @property
    def around_share(self) -> float:
        """Work beside the networks, as a share of their passes, in the middle of all runs."""
        return statistics.median(run.around / sum(run.networks.values()) for run in self.runs)


def measure_build(
    record: BuildRecord,
    volume: ReferenceVolume,
    output_root: Path,
    *,
    runs: int,
    threads: int,
    report: Callable[[int], None] = lambda _: None,
) -> BuildTimes:
    """Run a build on a volume, given to each of its roles, and measure.

    Args:
        record: the build.
        volume: what it is run on.
        output_root: the repository of all builds.
        runs: how many are counted; one more warms up.
        threads: of the networks and of the work around.
        report: is told the number of runs that are done.

    Raises:
        BuildError: the build can only be run by Triton, or refuses the volume.
    """
    if record.target is Target.TENSORRT:
        raise BuildError(
            f"{record.model} for tensorrt is run by Triton alone. Measure where it serves: "
            "axial_stage_seconds of the orchestrator's metrics."
        )
    from models.runtime.assembly import assemble
    from models.runtime.source_volume import SourceVolume

    begun = time.perf_counter()
    folder = build_folder(output_root, record.target, record.model, record.digest)
    pipeline, _ = assemble(folder, threads)
    given = dict.fromkeys(pipeline.manifest.roles, SourceVolume(volume.pixels, volume.affine_lps))

    def measured() -> Iterator[RunTimes]:
        while True:
            start = time.perf_counter()
            result = pipeline.run(given)
            whole = time.perf_counter() - start
            if result.refusal is not None:
                raise BuildError(
                    f"{record.model} refuses the volume: {result.refusal.reason}. Give one that "
                    "it is made for (--image)."
                )
            yield RunTimes(
                whole,
                _sums((one.network, one.seconds) for one in result.networks),
                dict(Counter(one.network for one in result.networks)),
                _sums((one.stage, one.seconds) for one in result.stages),
                dict(result.voxels),
            )

    each = measured()
    next(each)
    load_s = time.perf_counter() - begun
    counted: list[RunTimes] = []
    for done in range(1, runs + 1):
        counted.append(next(each))
        report(done)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    k, j, i = volume.pixels.shape
    return BuildTimes(record, (k, j, i), load_s, tuple(counted), peak)


def _sums(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, seconds in parts:
        sums[name] = sums.get(name, 0.0) + seconds
    return sums
