"""Writing a job's labels as a DICOM Segmentation (PS3.3 A.51), BINARY, Explicit VR Little Endian.

highdicom builds the object for stand-ins of the first two planes, without a voxel, which hold their
identity and geometry only. Then come the frames, whose functional groups are written as bytes; the
patient, study and equipment attributes from the source's bytes; and the geometry with the source's
own decimal strings. What viewers need beyond the standard is in docs/interop.md, rows R-1 to R-51.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.spatial import get_volume_positions
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from models.manifest import Segment
from services.common.headers import InstanceHeader
from services.reporting.analysis.analysis import Analysis
from services.reporting.job import Job
from services.reporting.kinds.segmentation.names import (
    KEEP_EMPTY_FRAMES,
    SEG,
    dimension_organization_uid,
)
from services.reporting.kinds.segmentation.packing import Frame, further_frames, packed
from services.reporting.objects.coding import dicom_code
from services.reporting.objects.equipment import (
    AXIAL_VERSION,
    MANUFACTURER,
    MODEL_NAME,
    serial_number,
)
from services.reporting.objects.finishing import as_file, finish
from services.reporting.objects.forms import Form
from services.reporting.objects.naming import (
    content_label,
    series_description,
    tracking_identifier,
    tracking_uid,
)
from services.reporting.objects.referring import (
    code_sequence,
    decimal_text,
    reference,
    referenced_series,
)
from services.reporting.objects.sequences import element, put_sequence, sequence, sequence_item
from services.reporting.objects.texts import ascii_text
from services.reporting.source.modules import copy_element, raw_bytes
from services.reporting.source.references import instances_of, preserved, referenced_frame
from services.reporting.source.series import SourceSeries
from services.reporting.source.stand_ins import stand_in
from services.reporting.source.validity import has_valid

# Attributes of the source's series that keep their meaning for a segmentation of it.
_OF_THE_SERIES = ("BodyPartExamined", "Laterality", "PositionReferenceIndicator")
_SIDES = (b"L", b"R")
_SOURCE_IMAGE = codes.DCM.SourceImageForImageProcessingOperation
_DERIVATION = Code("113076", "DCM", "Segmentation")


def encode_segmentation(analysis: Analysis, form: Form, number: int) -> bytes:
    """The SEG of a job as a file; at least one segment was found.

    Args:
        form: whether frames without any voxel are written too.
        number: the series number.
    """
    job, source = analysis.job, analysis.source
    segments = [job.manifest.segment(each) for each in analysis.numbers_in_object]
    planes = _first_planes(source)
    dataset = Segmentation(
        source_images=planes,
        pixel_array=np.zeros((len(planes), *source.shape[1:]), np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(job, segment, analysis.numbers_in_object[segment.number])
            for segment in segments
        ],
        series_instance_uid=SEG.series_uid(job.job_uid, form),
        series_number=number,
        sop_instance_uid=SEG.sop_instance_uid(job.job_uid, form),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=AXIAL_VERSION,
        device_serial_number=serial_number(job),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
        content_label=content_label(job.manifest),
        content_description=ascii_text(job.manifest.identity.title, 64),
        series_description=series_description(
            job.manifest, SEG.called, [segment.label for segment in segments], job.revision
        ),
    )
    _dimension_organization(dataset, dimension_organization_uid(job.job_uid, form))
    _make_readable(dataset, analysis, form)
    finish(dataset, job, source)
    return as_file(dataset)


def _first_planes(source: SourceSeries) -> list[Dataset]:
    """Two of the source's planes for highdicom, each as a classic instance of its own.

    highdicom takes one multi-frame object with all of its frames, and nothing else of the kind.
    What it says of the object does not depend on the other planes; what does is written here.
    """
    planes = [stand_in(header, source) for header in source.headers[:2]]
    for k, plane in enumerate(planes):
        plane.SOPClassUID = MRImageStorage
        plane.SOPInstanceUID = f"2.25.{k + 1}"  # none of them leaves
    return planes


def _make_readable(dataset: Dataset, analysis: Analysis, form: Form) -> None:
    """What highdicom does not write, or not for these frames, or not as viewers need it."""
    source = analysis.source
    dataset.ContentCreatorName = "Axial^"
    present = _present(analysis, form)
    _organise(dataset, analysis, present)
    _write_frames(dataset, analysis, present)
    put_sequence(
        dataset,
        "ReferencedSeriesSequence",
        [
            referenced_series(
                source.headers[0].series_uid, "ReferencedInstanceSequence", instances_of(source)
            )
        ],
    )
    # Viewers that find it pair frame i with its item i, which is wrong where frames are left out.
    dataset.pop("SourceImageSequence", None)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    # Some viewers look nowhere but in the frames; highdicom shares it when there is one segment.
    shared.pop("SegmentIdentificationSequence", None)
    _write_geometry_as_sent(shared, source)
    _copy_series(source, dataset)
    dataset["PixelData"].VR = "OB"  # PS3.5 A.2: bits allocated are at most 8


def _description(job: Job, segment: Segment, number: int) -> SegmentDescription:
    identity = job.manifest.identity
    description = SegmentDescription(
        segment_number=number,
        segment_label=ascii_text(segment.label, 64),
        segmented_property_category=dicom_code(segment.category),
        segmented_property_type=dicom_code(segment.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=ascii_text(identity.title, 64),
            version=identity.version,
            family=dicom_code(identity.algorithm_family),
            source=ascii_text(identity.manufacturer, 64),
        ),
        tracking_uid=tracking_uid(job.job_uid, segment.number),
        tracking_id=tracking_identifier(job.manifest, segment.label),
        anatomic_regions=[dicom_code(segment.region)] if segment.region else None,
    )
    if segment.description:
        description.SegmentDescription = ascii_text(segment.description, 1024)
    description.RecommendedDisplayCIELabValue = list(segment.colour_cielab)
    return description


def _present(analysis: Analysis, form: Form) -> list[Frame]:
    """The frames that hold voxels, or all of the segments found."""
    numbers = analysis.numbers_in_object
    return [
        (numbers[count.number], k)
        for count in analysis.counts
        if count.found
        for k in range(len(analysis.labels))
        if form.has(KEEP_EMPTY_FRAMES) or count.voxels[k]
    ]


def _organise(dataset: Dataset, analysis: Analysis, present: Sequence[Frame]) -> None:
    """DimensionOrganizationType: "3D" for one segment whose frames lie evenly (PS3.3 C.7.6.17)."""
    dataset.pop("DimensionOrganizationType", None)
    if len(analysis.numbers_in_object) > 1 or len(present) < 2:
        return
    headers = analysis.source.headers
    spacing, _ = get_volume_positions(
        image_positions=[headers[k].numbers("ImagePositionPatient") or () for _, k in present],
        image_orientation=headers[0].numbers("ImageOrientationPatient") or (),
        sort=False,
    )
    if spacing is not None and spacing > 0.0:
        dataset.DimensionOrganizationType = "3D"


def _write_frames(dataset: Dataset, analysis: Analysis, present: Sequence[Frame]) -> None:
    """The frames by segment, then by slice, ascending along the slices' normal.

    Positions are numbered from 1 without gaps. There are as many planes without voxels as save a
    pad byte (see `packing`).
    """
    headers = analysis.source.headers
    in_manifest = {place: number for number, place in analysis.numbers_in_object.items()}
    more = further_frames(present, len(headers), analysis.labels[0].size)
    frames = sorted([*present, *more])
    position = {k: n for n, k in enumerate(sorted({k for _, k in frames}), start=1)}
    groups = {k: _groups_of_plane(headers[k]) for k in position}
    identified = {
        place: sequence(
            "SegmentIdentificationSequence",
            [sequence_item(element("ReferencedSegmentNumber", struct.pack("<H", place)))],
        )
        for place in in_manifest
    }
    put_sequence(
        dataset,
        "PerFrameFunctionalGroupsSequence",
        [
            sequence_item(
                groups[k][0],
                sequence(
                    "FrameContentSequence",
                    [
                        sequence_item(
                            element("DimensionIndexValues", struct.pack("<II", place, position[k]))
                        )
                    ],
                ),
                groups[k][1],
                identified[place],
            )
            for place, k in frames
        ],
    )
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = packed(analysis.labels, [(in_manifest[place], k) for place, k in frames])


def _groups_of_plane(header: InstanceHeader) -> tuple[bytes, bytes]:
    """DerivationImageSequence (PS3.3 C.7.6.16.2.6) and PlanePositionSequence of a plane."""
    frame = referenced_frame(header)
    frames = () if frame is None else (frame,)
    image = [
        reference(header.sop_class_uid, header.sop_instance_uid, frames),
        element("SpatialLocationsPreserved", preserved(header)),
        code_sequence("PurposeOfReferenceCodeSequence", _SOURCE_IMAGE),
    ]
    derivation = [
        sequence("SourceImageSequence", [sequence_item(*image)]),
        code_sequence("DerivationCodeSequence", _DERIVATION),
    ]
    at = element("ImagePositionPatient", decimal_text(header.attributes["ImagePositionPatient"]))
    return (
        sequence("DerivationImageSequence", [sequence_item(*derivation)]),
        sequence("PlanePositionSequence", [sequence_item(at)]),
    )


def _write_geometry_as_sent(shared: Dataset, source: SourceSeries) -> None:
    """Puts the source's own decimal strings where highdicom formatted numbers."""
    first = source.headers[0].attributes
    orientation = shared.PlaneOrientationSequence[0]
    _as_sent(orientation, "ImageOrientationPatient", first["ImageOrientationPatient"])
    measures = shared.PixelMeasuresSequence[0]
    _as_sent(measures, "PixelSpacing", first["PixelSpacing"])
    if source.slice_thickness_mm is not None:
        _as_sent(measures, "SliceThickness", first["SliceThickness"])


def _as_sent(item: Dataset, keyword: str, value: Any) -> None:
    # Text, not numbers: pydicom keeps the characters of a DS made from text.
    setattr(item, keyword, value)


def _dimension_organization(dataset: Dataset, uid: str) -> None:
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid


def _copy_series(source: SourceSeries, dataset: Dataset) -> None:
    """Copies what is valid: none of it has to have a value."""
    for keyword in _OF_THE_SERIES:
        if has_valid(source.first, keyword):
            copy_element(source.first, dataset, keyword)
    if "Laterality" in dataset and raw_bytes(dataset, "Laterality") not in _SIDES:
        del dataset.Laterality
    if "PositionReferenceIndicator" not in dataset:
        dataset.PositionReferenceIndicator = None
