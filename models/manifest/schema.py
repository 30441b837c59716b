"""The manifest `axial.model/v2`: everything a model says about itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from models.manifest.alignment import grid_role_of, require_alignment
from models.manifest.base import Code, Name, Part
from models.manifest.digest import content_digest
from models.manifest.findings import Disagreement, Finding
from models.manifest.networks import Network, Precision, Precisions, Source, SourceFile, Target
from models.manifest.plan import AnyStep
from models.manifest.plan.heads import Head, head_of
from models.manifest.plan.measure_uncertainty import MeasureUncertainty
from models.manifest.plan.step import ValueName
from models.manifest.roles import Role

__all__ = [
    "SCHEMA",
    "Acceptance",
    "Identity",
    "Manifest",
    "Output",
    "Parity",
    "ParityBound",
    "ParityCase",
    "Resources",
    "Segment",
    "VolumeMeasurement",
]

SCHEMA: Final = "axial.model/v2"

CIELab = Annotated[
    tuple[
        Annotated[int, Field(ge=0, le=65535)],
        Annotated[int, Field(ge=0, le=65535)],
        Annotated[int, Field(ge=0, le=65535)],
    ],
    Field(strict=False),
]


# UCUM has two letters for the litre.
_UNITS_OF_VOLUME = ("mm3", "cm3", "mL", "ml", "L", "l")


class Identity(Part):
    """Who the model is: what results, records and pages call it."""

    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    title: Annotated[str, Field(min_length=1, max_length=64)]
    description: Annotated[str, Field(min_length=1)]
    licence: Annotated[str, Field(min_length=1)]
    # Of the networks: who trained them. Goes into ContributingEquipment (LO, 64 characters).
    manufacturer: Annotated[str, Field(min_length=1, max_length=64)]
    algorithm_family: Code
    citation: str = ""


# Anatomical Structure, in the standard's earlier code and in today's (PS3.16 CID 7150).
_ANATOMICAL = frozenset({("SCT", "123037004"), ("SCT", "91723000")})


class Segment(Part):
    """One segment of the labels (PS3.3 C.8.20.2).

    `colour_cielab`: RecommendedDisplayCIELabValue, three unsigned 16-bit integers as scaled in
    PS3.3 C.10.7.1.1.
    """

    number: Annotated[int, Field(ge=1, le=255)]
    label: Annotated[str, Field(min_length=1, max_length=64)]
    description: str = ""
    category: Code
    type: Code
    # Where in the body the segment lies; of an anatomical structure, the structure that holds it.
    region: Code | None = None
    colour_cielab: CIELab

    @property
    def is_anatomical(self) -> bool:
        """Whether the segment is a structure of the body, and so is a place itself."""
        return (self.category.scheme, self.category.value) in _ANATOMICAL

    @property
    def site(self) -> Code:
        """Where a finding in the segment lies: the region, or the structure that the segment is."""
        return self.region or self.type

    @model_validator(mode="after")
    def _lies_somewhere(self) -> Segment:
        if not self.is_anatomical and self.site == self.type:
            raise ValueError(
                f"segment {self.number} ({self.label}) is no anatomical structure: `region` must "
                "say where in the body it lies"
            )
        return self


class VolumeMeasurement(Part):
    """The volume of segments by counting voxels; `segments` empty means every segment.

    `interval`: the output of kind values whose members' volumes say how sure it is.
    """

    kind: Literal["volume"]
    concept: Code
    unit: Code
    segments: Annotated[tuple[int, ...], Field(strict=False)] = ()
    interval: Name | None = None

    @field_validator("unit")
    @classmethod
    def _unit_is_of_a_volume(cls, unit: Code) -> Code:
        if unit.scheme != "UCUM" or unit.value not in _UNITS_OF_VOLUME:
            raise ValueError(
                f"{unit.scheme} {unit.value} is no unit of a volume; UCUM's are "
                f"{', '.join(_UNITS_OF_VOLUME)}"
            )
        return unit


class ParityBound(Part):
    """How far a built network may stray from the trained network, on the pipeline's whole mask."""

    min_dice: Annotated[float, Field(gt=0.0, le=1.0)]
    max_differing_voxels: Annotated[int, Field(ge=0)]


class ParityCase(Part):
    """The volume on which a build is compared with the trained networks.

    A NIfTI file of a source, or a made one (`models.building.phantoms`) by its name.
    """

    source: Name | None = None
    path: Annotated[str, Field(min_length=1)] | None = None
    phantom: Literal["head-ct-lesions", "brain-mr-glioma", "blobs"] | None = None
    role: Name

    @model_validator(mode="after")
    def _one_of_them(self) -> ParityCase:
        if (self.source is None) != (self.path is None) or (
            (self.path is None) == (self.phantom is None)
        ):
            raise ValueError("either `source` and `path`, or `phantom` say what volume it is")
        return self


class Parity(Part):
    """The parity check of a build: on what, and per precision how far the build may stray."""

    case: ParityCase
    bounds: dict[Annotated[Precision, Field(strict=False)], ParityBound]

    @field_validator("bounds", mode="after")
    @classmethod
    def _order_of_keys_decides_nothing(
        cls, bounds: dict[Precision, ParityBound]
    ) -> dict[Precision, ParityBound]:
        return dict(sorted(bounds.items()))


class Acceptance(Part):
    """What a build has to hold; what a result has to is under `findings`."""

    parity: Parity


class Output(Part):
    """What leaves the plan: the value `of`, under a name.

    `layers`: segments on the slices of the grid role; `values`: numbers of them.
    """

    name: Name
    kind: Literal["layers", "values"]
    of: ValueName


class Resources(Part):
    """Hints for planning, in MiB and seconds on two cores; never decide a result."""

    host_memory_mib: Annotated[int, Field(ge=1)]
    gpu_memory_mib: Annotated[int, Field(ge=1)] | None = None
    typical_seconds: Annotated[float, Field(gt=0.0)] | None = None


class Manifest(Part):
    """A catalogue entry: `models/catalogue/<name>/model.yaml`."""

    schema_: Annotated[Literal["axial.model/v2"], Field(alias="schema")]
    identity: Identity
    sources: Annotated[dict[Name, Source], Field(min_length=1)]
    roles: Annotated[dict[Name, Role], Field(min_length=1)]
    networks: Annotated[dict[Name, Network], Field(min_length=1)]
    plan: Annotated[tuple[AnyStep, ...], Field(min_length=1, strict=False)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1, strict=False)]
    precision: Precisions
    segments: Annotated[tuple[Segment, ...], Field(min_length=1, strict=False)]
    measurements: Annotated[tuple[VolumeMeasurement, ...], Field(strict=False)] = ()
    findings: Annotated[tuple[Finding, ...], Field(strict=False)] = ()
    procedure_reported: Code | None = None
    acceptance: Acceptance
    resources: Resources

    @property
    def name(self) -> str:
        """The model's name, also its folder's and its Triton model's."""
        return self.identity.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.identity.version

    @property
    def grid_role(self) -> str:
        """The role to whose slices labels return."""
        return grid_role_of(self.roles)

    @property
    def digest(self) -> str:
        """The digest of the CPU build in its most preferred precision."""
        return self.digest_for(self.precision.cpu[0], Target.CPU)

    def digest_for(self, precision: Precision | str, target: Target | str = Target.CPU) -> str:
        """Return the sha256 (hex) over everything that decides a result of a build.

        Args:
            precision: of the build.
            target: of the build.
        """
        return content_digest(
            self.model_dump(mode="json", by_alias=True),
            precision=Precision(precision).value,
            target=Target(target).value,
        )

    @property
    def layers(self) -> Output:
        """The output that holds the segments."""
        return next(output for output in self.outputs if output.kind == "layers")

    def interval_words(self, output: str) -> str:
        """Return of which of the members' volumes an output of kind values says the interval."""
        (of,) = (each.of for each in self.outputs if each.name == output)
        (step,) = (each for each in self.plan if each.out == of)
        return step.interval.words if isinstance(step, MeasureUncertainty) else ""

    def head_of(self, network: str) -> Head:
        """Return what the plan builds into a network; KeyError when no step runs it."""
        return head_of(self.plan, network, self.networks[network].channels)

    def source_file(self, source: str, path: str) -> SourceFile:
        """Return a file of a source.

        Args:
            source: the source's name.
            path: the file's path in the source.

        Raises:
            ValueError: the manifest does not list the source, or the file.
        """
        if source not in self.sources:
            raise ValueError(f"there is no source {source}")
        for file in self.sources[source].files:
            if file.path == path:
                return file
        raise ValueError(f"{path} is not among the files of source {source}")

    def segment(self, number: int) -> Segment:
        """Return the segment with this number.

        Raises:
            KeyError: there is none.
        """
        for segment in self.segments:
            if segment.number == number:
                return segment
        raise KeyError(number)

    @field_validator("sources", "roles", "networks", mode="after")
    @classmethod
    def _order_of_keys_decides_nothing(cls, named: dict[str, Any]) -> dict[str, Any]:
        # The digest sorts keys: what is read from a manifest must not depend on their order.
        return dict(sorted(named.items()))

    @model_validator(mode="after")
    def _references_exist(self) -> Manifest:
        require_alignment(self.roles)
        case = self.acceptance.parity.case
        if case.source is not None:
            self.source_file(case.source, case.path or "")
        if case.role not in self.roles:
            raise ValueError(f"acceptance.parity.case: there is no role {case.role}")
        for name, network in self.networks.items():
            try:
                for path in network.weights.paths:
                    self.source_file(network.weights.source, path)
            except ValueError as error:
                raise ValueError(f"network {name}: {error}") from error
        return self

    @model_validator(mode="after")
    def _outputs_are_named_once(self) -> Manifest:
        names = [output.name for output in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError(f"two outputs have one name: {', '.join(names)}")
        if sum(output.kind == "layers" for output in self.outputs) != 1:
            raise ValueError("one output of kind layers is wanted: the segments")
        known = {output.name for output in self.outputs if output.kind == "values"}
        for field, name in _values_named(self):
            if name not in known:
                raise ValueError(f"{field}: there is no output {name} of kind values")
        return self

    @model_validator(mode="after")
    def _segments_are_numbered_and_known(self) -> Manifest:
        numbers = [segment.number for segment in self.segments]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"segments must be numbered 1..{len(numbers)} in order, not {numbers}")
        for number in _segments_named(self):
            if number not in numbers:
                raise ValueError(f"segment {number} is named but not listed under segments")
        return self

    @model_validator(mode="after")
    def _every_precision_has_a_bound(self) -> Manifest:
        for target in Target:
            for precision in self.precision.of(target):
                if precision not in self.acceptance.parity.bounds:
                    raise ValueError(
                        f"acceptance.parity.bounds has no bound for {precision.value}, which "
                        f"precision.{target.value} allows"
                    )
        return self


def _segments_named(manifest: Manifest) -> Iterable[int]:
    for measurement in manifest.measurements:
        yield from measurement.segments
    for finding in manifest.findings:
        yield finding.segment


def _values_named(manifest: Manifest) -> Iterable[tuple[str, str]]:
    for measurement in manifest.measurements:
        if measurement.interval is not None:
            yield "measurements.interval", measurement.interval
    for finding in manifest.findings:
        if isinstance(finding, Disagreement):
            yield "findings.of", finding.of
