"""The known answer: a small image with the labels that the build got for it.

Run once when a model is loaded. It catches what no health check sees: tensors that arrive
empty, weights that are not those that were built, a device that computes something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.runtime.errors import PipelineError
from models.runtime.pipeline import Pipeline
from models.runtime.source_volume import SourceVolume

__all__ = ["KNOWN_ANSWER_FILE", "KnownAnswer", "check_known_answer"]

KNOWN_ANSWER_FILE: Final = "known-answer.npz"
# Another processor of the same precision rounds differently at the surface; anything that is
# really wrong (weights, axes, empty tensors) lies far below.
_LEAST_DICE: Final = 0.98


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A volume and its labels.

    `image`: uint8, int16 or float32 [k, j, i]; `affine_lps`: float64 [4, 4]; `labels`: uint8
    [k, j, i].
    """

    role: str
    image: NDArray[np.uint8] | NDArray[np.int16] | NDArray[np.float32]
    affine_lps: NDArray[np.float64]
    labels: NDArray[np.uint8]

    def save(self, file: Path) -> None:
        """Write as a compressed archive."""
        np.savez_compressed(
            file,
            role=np.array(self.role),
            image=self.image,
            affine_lps=self.affine_lps,
            labels=self.labels,
        )

    @classmethod
    def load(cls, file: Path) -> KnownAnswer:
        """Read; PipelineError when the file is missing or broken."""
        try:
            with np.load(file) as archive:
                return cls(
                    str(archive["role"]),
                    archive["image"],
                    archive["affine_lps"],
                    archive["labels"],
                )
        except (OSError, KeyError, ValueError) as error:
            raise PipelineError(f"{file}: no known answer ({error}). Build it again.") from error


def check_known_answer(pipeline: Pipeline, known: KnownAnswer) -> float:
    """Run the pipeline on the known image and return the Dice with the known labels.

    Raises:
        PipelineError: they do not agree.
    """
    image = SourceVolume(known.image.astype(np.float32), known.affine_lps)
    result = pipeline.run(dict.fromkeys(pipeline.manifest.roles, image))
    labels = np.zeros_like(known.labels) if result.labels is None else result.labels
    shared = int(np.count_nonzero((labels == known.labels) & (labels != 0)))
    total = int(np.count_nonzero(labels)) + int(np.count_nonzero(known.labels))
    agreement = 2.0 * shared / total if total else 0.0
    if agreement < _LEAST_DICE:
        raise PipelineError(
            f"{pipeline.manifest.name}: the known answer has Dice {agreement:.4f}, below "
            f"{_LEAST_DICE}. The networks are not those that were built; build them again."
        )
    return agreement
