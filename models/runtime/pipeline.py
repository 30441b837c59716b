"""A model's whole pipeline, as its manifest describes it: volumes in, labels out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.runtime.coarse_to_fine import Segmented, segment_coarse_to_fine
from models.runtime.compiled import compile_pipeline
from models.runtime.components import fill_holes, keep_largest_component
from models.runtime.crew import Crew
from models.runtime.errors import RequestError
from models.runtime.networks import Network
from models.runtime.orientation import closest_canonical
from models.runtime.record import PipelineRefusal, PipelineResult, Stopwatch
from models.runtime.source_volume import SourceVolume

__all__ = ["Pipeline"]

U8 = NDArray[np.uint8]


class Pipeline:
    """A manifest joined with its built networks. One run at a time (networks hold buffers)."""

    def __init__(
        self, manifest: Manifest, networks: Mapping[str, Network], threads: int = 1
    ) -> None:
        missing = set(manifest.networks) - set(networks)
        if missing:
            raise RequestError(f"The networks {', '.join(sorted(missing))} were not given.")
        for name, described in manifest.networks.items():
            if networks[name].shape != described.shape:
                raise RequestError(
                    f"Network {name} is built for {networks[name].shape}, the manifest says "
                    f"{described.shape}. Build the model again."
                )
        self.manifest: Final = manifest
        self._compiled: Final = compile_pipeline(manifest)
        self.networks: Final = dict(networks)
        self._crew: Final = Crew(threads)

    def run(self, volumes: Mapping[str, SourceVolume]) -> PipelineResult:
        """Segment one selection, given by role.

        The labels lie on the grid of the manifest's `grid_role`. Volumes are only read. Raises
        RequestError when that role is not given, or has an affine that cannot be used.
        """
        source = self._grid_volume(volumes)
        watch = Stopwatch()
        orientation = closest_canonical(source.affine_lps)
        found = segment_coarse_to_fine(
            source,
            orientation,
            self._compiled,
            self.networks,
            self._crew,
            watch,
        )
        if isinstance(found, PipelineRefusal):
            return PipelineResult(None, {}, tuple(watch.networks), tuple(watch.stages), found)
        labels = np.zeros(source.shape, np.uint8)
        voxels = {segment.number: 0 for segment in self.manifest.segments}
        if found is not None:
            with watch.stage("postprocess"):
                voxels |= self._postprocess(found, orientation.to_canonical(labels))
        return PipelineResult(labels, voxels, tuple(watch.networks), tuple(watch.stages))

    def release(self) -> None:
        """Give the networks' working memory back to the system."""
        for network in self.networks.values():
            network.release()

    def _grid_volume(self, volumes: Mapping[str, SourceVolume]) -> SourceVolume:
        role = self._compiled.grid_role
        if role not in volumes:
            given = ", ".join(sorted(volumes)) or "none"
            raise RequestError(f"The role {role} is wanted; given are: {given}.")
        return volumes[role]

    def _postprocess(self, found: Segmented, labels: U8) -> dict[int, int]:
        """Clean the mask in place and write it into `labels`' canonical view.

        Outside the mask's box there is no foreground, so nothing there can join components or
        enclose a hole.
        """
        segment = self._compiled.segment
        mask = found.mask
        for step in self._compiled.cleaning:
            if step is None:
                fill_holes(mask)
            else:
                keep_largest_component(mask, step.connectivity)
        voxels = int(np.count_nonzero(mask))
        if segment != 1:
            mask *= np.uint8(segment)
        place = labels[found.box]

        def write(first: int, end: int) -> None:
            # Plane by plane, because the two differ in the order of their axes.
            for middle in range(first, end):
                place[:, middle] = mask[:, middle]

        self._crew.share(mask.shape[1], write)
        return {segment: voxels}
