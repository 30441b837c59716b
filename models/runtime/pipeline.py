"""A model's whole plan, joined with its built networks: volumes in, labels out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np

from models.manifest import Manifest
from models.manifest.alignment import aligns_of
from models.manifest.plan.members import kept_apart
from models.runtime.crew import Crew
from models.runtime.errors import RequestError
from models.runtime.grid import source_grid
from models.runtime.images import Image
from models.runtime.inputs import frames_problem, with_zeros
from models.runtime.networks import Network
from models.runtime.progress import NOBODY, Caller, Progress
from models.runtime.record import PipelineResult, Stopwatch
from models.runtime.running import NothingFound, Refused, Run
from models.runtime.segments import Segments
from models.runtime.source_volume import SourceVolume
from models.runtime.steps import run_step

__all__ = ["Pipeline"]

# Of the 5 GB that a whole body of 118 classes may take, the scan, its copy at the model's spacing
# and the labels have the rest.
_MERGING_BYTES: Final = 3 << 30


class Pipeline:
    """A manifest joined with its built networks. One run at a time (networks hold buffers)."""

    def __init__(
        self, manifest: Manifest, networks: Mapping[str, Network], threads: int = 1
    ) -> None:
        missing = set(manifest.networks) - set(networks)
        if missing:
            raise RequestError(f"The networks {', '.join(sorted(missing))} were not given.")
        for name, described in manifest.networks.items():
            if networks[name].shape != described.patch:
                raise RequestError(
                    f"Network {name} is built for {networks[name].shape}, the manifest says "
                    f"{described.patch}. Build the model again."
                )
        self.manifest: Final = manifest
        self.networks: Final = dict(networks)
        self._crew: Final = Crew(threads)
        self._inferring: Final = sum(step.do == "infer" for step in manifest.plan)
        self._apart: Final = kept_apart(manifest.plan)
        outputs = {output.of for output in manifest.outputs}
        self._read_later: Final = [
            frozenset(outputs.union(*(later.reads() for later in manifest.plan[place + 1 :])))
            for place in range(len(manifest.plan))
        ]

    def run(
        self,
        volumes: Mapping[str, SourceVolume],
        caller: Caller = NOBODY,
        job_uid: str = "",
    ) -> PipelineResult:
        """Segment one selection, given by role.

        The labels lie on the grid of the manifest's `grid_role`. Volumes are only read.

        Args:
            volumes: by role.
            caller: waits for the result, and may hear how far it has come.
            job_uid: what the caller knows the run as.

        Raises:
            RequestError: a role is not given that a study may not lack, or has an affine that
                cannot be used.
            Cancelled: nobody waits any more.
        """
        roles = self.manifest.roles
        for role, described in roles.items():
            if role not in volumes and described.if_missing == "refuse":
                given = ", ".join(sorted(volumes)) or "none"
                raise RequestError(f"The role {role} is wanted; given are: {given}.")
        refusal = frames_problem(roles, volumes)
        if refusal is not None:
            return PipelineResult(None, {}, (), (), refusal)
        lacking = tuple(role for role in roles if role not in volumes)
        volumes = with_zeros(roles, volumes)
        watch = Stopwatch()
        facts = {name: network.facts for name, network in self.manifest.networks.items()}
        progress = Progress(self._inferring, partial(caller.tell, job_uid))
        run = Run(volumes, self.networks, self._crew, watch, facts, _MERGING_BYTES)
        run.is_cancelled, run.progress = caller.is_cancelled, progress
        run.apart = self._apart
        run.aligns, run.made_of_zeros = aligns_of(roles), frozenset(lacking)
        run.titles = {role: described.title for role, described in roles.items()}
        for role in roles:
            grid = source_grid(role, volumes[role])
            run.keep(role, Image(grid, ()))
        try:
            for place, step in enumerate(self.manifest.plan):
                run.read_later = self._read_later[place]
                with watch.stage(f"{step.do} {step.out}"):
                    run_step(step, run)
        except Refused as end:
            return PipelineResult(
                None,
                {},
                tuple(watch.networks),
                tuple(watch.stages),
                end.refusal,
                lacking=lacking,
            )
        except NothingFound:
            found = None
        else:
            found = run.segments(self.manifest.layers.of)
        labels = np.zeros(volumes[self.manifest.grid_role].shape, np.uint8)
        with watch.stage("write labels"):
            voxels = self._write(found, labels)
        # Of a run that found nothing, only what was made before it ended is known.
        numbers = {
            output.name: run.numbers(output.of)
            for output in self.manifest.outputs
            if output.kind == "values" and output.of in run.values
        }
        return PipelineResult(
            labels,
            voxels,
            tuple(watch.networks),
            tuple(watch.stages),
            numbers=numbers,
            lacking=lacking,
        )

    def release(self) -> None:
        """Give the networks' working memory back to the system."""
        for network in self.networks.values():
            network.release()

    def _write(self, found: Segments | None, labels: np.ndarray) -> dict[int, int]:
        """Write what was found to the source's slices, and count it."""
        numbers = [segment.number for segment in self.manifest.segments]
        if found is None or found.labels is None:
            return dict.fromkeys(numbers, 0)
        found.write(labels, self._crew)
        if len(numbers) == 1:
            return {numbers[0]: int(np.count_nonzero(found.labels))}
        counts = np.bincount(found.labels.ravel(), minlength=256)
        return {number: int(counts[number]) for number in numbers}
