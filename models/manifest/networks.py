"""Networks and the pipeline around them, as data.

What runs is described here; how it runs is `models.runtime`'s matter. Every part carries a
`kind` (or an enumerated operation), so that further schemes join as further kinds.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from models.manifest.base import Name, Part, Sha256

__all__ = [
    "BoxStage",
    "CoarseToFine",
    "FillHoles",
    "Geometry",
    "Intensity",
    "LargestComponent",
    "Network",
    "PostprocessStep",
    "Precision",
    "Precisions",
    "SegmentStage",
    "Source",
    "SourceFile",
    "Target",
    "Weights",
]

Shape = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    Field(strict=False),
]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Target(StrEnum):
    """Where a built network runs."""

    CPU = "cpu"
    TENSORRT = "tensorrt"
    TORCH = "torch"


class Precision(StrEnum):
    """The number format of a network's inner arithmetic."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


class SourceFile(Part):
    """A file inside a source, by its path there."""

    path: Annotated[str, Field(min_length=1)]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Sha256


class Source(Part):
    """A wheel on the Python Package Index that carries files of the model."""

    kind: Literal["pypi-wheel"]
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9.!+_-]+$")]
    wheel: Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]+\.whl$")]
    sha256: Sha256
    licence: Annotated[str, Field(min_length=1)]
    copyright: str = ""
    files: Annotated[tuple[SourceFile, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _wheel_is_of_the_package(self) -> Source:
        # <distribution>-<version>-...: PEP 427, names as PEP 503 makes them alike.
        distribution, version = self.wheel.split("-")[:2] if "-" in self.wheel else (self.wheel, "")
        if (_alike(distribution), version) != (_alike(self.package), self.version):
            raise ValueError(
                f"the wheel {self.wheel} is not of {self.package} {self.version}, as its name says"
            )
        return self

    @field_validator("files")
    @classmethod
    def _files_are_named_once(cls, files: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
        paths = [file.path for file in files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file stands twice under files")
        return files


def _alike(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


class Weights(Part):
    """Which file of which source a network is read from."""

    source: Name
    path: Annotated[str, Field(min_length=1)]
    format: Literal["torchscript"]


class Network(Part):
    """One network: input [1, 1, x, y, z] float32, output [1, classes, x, y, z] float32.

    `activation` makes scores of the output when the network is built: over all classes (softmax),
    of each by itself (sigmoid), or not (none), where the trained network's last layer does.
    """

    weights: Weights
    inputs: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    shape: Shape
    classes: Annotated[int, Field(ge=1)]
    activation: Literal["softmax", "sigmoid", "none"]


class Geometry(Part):
    """Axis order that the networks were trained on.

    `closest-canonical`: the source's own grid, axes permuted and flipped so that they point
    most nearly to the letters of `axes`; nothing is interpolated at this step.
    """

    kind: Literal["closest-canonical"]
    axes: Literal["RAS"]
    resample: Literal["nearest-exact"]


class Intensity(Part):
    """Scaling of a network's input.

    `quantile-standardise`: values are mapped so that the `low` and `high` quantiles of the
    coarse network's input become 0 and 1, clipped, standardised with the input's own mean and
    unbiased standard deviation, and mapped to `mean` and `std`. Voxels that were not measured
    (pixel padding) have no part in quantiles, mean and deviation, and become `unmeasured`: the
    window's `low` end, the model's background.
    """

    kind: Literal["quantile-standardise"]
    low: Fraction
    high: Fraction
    mean: float
    std: Annotated[float, Field(gt=0)]
    unmeasured: Literal["low"] = "low"

    @model_validator(mode="after")
    def _window_is_not_empty(self) -> Intensity:
        if self.low >= self.high:
            raise ValueError(f"the low quantile {self.low} is not below the high one {self.high}")
        return self


class BoxStage(Part):
    """The coarse network's part: find the box in which the fine network looks.

    The largest component of `channel` > `threshold` is projected on each axis; planes whose
    mean exceeds `plane_mean` span the box, which grows by `margin` of its size on each side.
    """

    network: Name
    channel: Annotated[int, Field(ge=0)]
    threshold: Fraction
    plane_mean: Fraction
    margin: Annotated[float, Field(ge=0.0)]


class SegmentStage(Part):
    """The fine network's part: `channel` > `threshold` becomes segment `segment`."""

    network: Name
    channel: Annotated[int, Field(ge=0)]
    threshold: Fraction
    segment: Annotated[int, Field(ge=1, le=255)]


class CoarseToFine(Part):
    """Two stages: a coarse network finds the box, a fine network segments it."""

    kind: Literal["coarse-to-fine"]
    coarse: BoxStage
    fine: SegmentStage


class LargestComponent(Part):
    """Keep the largest connected component of a segment."""

    operation: Literal["largest-component"]
    segment: Annotated[int, Field(ge=1, le=255)]
    connectivity: Literal[6, 18, 26]


class FillHoles(Part):
    """Fill enclosed background of a segment (in 3D, by faces)."""

    operation: Literal["fill-holes"]
    segment: Annotated[int, Field(ge=1, le=255)]


PostprocessStep = Annotated[LargestComponent | FillHoles, Field(discriminator="operation")]


class Precisions(Part):
    """Per target the precisions that may be built, in order of preference.

    The first that the building machine's device confirms is taken; the build record and the
    digest name it, so two builds with different precisions are never taken for each other.
    """

    cpu: Annotated[
        tuple[Annotated[Precision, Field(strict=False)], ...], Field(min_length=1, strict=False)
    ]
    tensorrt: Annotated[
        tuple[Annotated[Precision, Field(strict=False)], ...], Field(min_length=1, strict=False)
    ]
    torch: Annotated[
        tuple[Annotated[Precision, Field(strict=False)], ...], Field(min_length=1, strict=False)
    ]

    def of(self, target: Target) -> tuple[Precision, ...]:
        """Return the precisions of one target, most preferred first."""
        return {Target.CPU: self.cpu, Target.TENSORRT: self.tensorrt, Target.TORCH: self.torch}[
            target
        ]
