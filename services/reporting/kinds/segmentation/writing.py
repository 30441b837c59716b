"""Writing a job's labels as a DICOM Segmentation (PS3.3 A.51), BINARY, Explicit VR Little Endian.

highdicom builds the object from stand-ins of the source instances that hold their identity and
geometry only; the patient, study and equipment attributes are copied from the source's bytes
afterwards, and the geometry is written with the source's own decimal strings. What viewers need
beyond the standard is in docs/interop.md, rows R-1 to R-51.
"""

from __future__ import annotations

import copy
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom.dataset import Dataset
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
from services.reporting.kinds.segmentation.packing import further_frames, packed
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
from services.reporting.objects.texts import ascii_text
from services.reporting.source.modules import copy_element, raw_bytes
from services.reporting.source.references import instances_of, refer, stand_in_uid
from services.reporting.source.series import SourceSeries
from services.reporting.source.stand_ins import stand_in
from services.reporting.source.validity import has_valid

# Attributes of the source's series that keep their meaning for a segmentation of it.
_OF_THE_SERIES = ("BodyPartExamined", "Laterality", "PositionReferenceIndicator")
_SIDES = (b"L", b"R")


def encode_segmentation(analysis: Analysis, form: Form, number: int) -> bytes:
    """The SEG of a job as a file; at least one segment was found.

    Args:
        form: whether frames without any voxel are written too.
        number: the series number.
    """
    job, source = analysis.job, analysis.source
    segments = [job.manifest.segment(each) for each in analysis.numbers_in_object]
    dataset = Segmentation(
        source_images=_planes(source),
        pixel_array=_renumbered(analysis),
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
        omit_empty_frames=not form.has(KEEP_EMPTY_FRAMES),
        content_label=content_label(job.manifest),
        content_description=ascii_text(job.manifest.identity.title, 64),
        series_description=series_description(
            job.manifest, SEG.called, [segment.label for segment in segments], job.revision
        ),
    )
    _dimension_organization(dataset, dimension_organization_uid(job.job_uid, form))
    _make_readable(dataset, analysis)
    finish(dataset, job, source)
    return as_file(dataset)


def _planes(source: SourceSeries) -> list[Dataset]:
    """The source's planes for highdicom, each as a classic instance of its own.

    highdicom takes one multi-frame object with all of its frames, and nothing else of the kind.
    """
    planes = [stand_in(header, source) for header in source.headers]
    for k, plane in enumerate(planes):
        plane.SOPClassUID = MRImageStorage
        plane.SOPInstanceUID = stand_in_uid(k)
    return planes


def _make_readable(dataset: Dataset, analysis: Analysis) -> None:
    """What viewers and archives need beyond what highdicom writes."""
    dataset.ContentCreatorName = "Axial^"
    _in_slice_order(dataset, analysis)
    _name_sources(dataset, analysis.source)
    # Viewers that find it pair frame i with its item i, which is wrong where frames are left out.
    dataset.pop("SourceImageSequence", None)
    _segment_per_frame(dataset)
    _copy_series(analysis.source, dataset)
    dataset["PixelData"].VR = "OB"  # PS3.5 A.2: bits allocated are at most 8


def _renumbered(analysis: Analysis) -> npt.NDArray[np.uint8]:
    """The labels with the objects' segment numbers; the same array when nothing changes."""
    numbers = analysis.numbers_in_object
    if all(number == place for number, place in numbers.items()):
        return analysis.labels
    table = np.zeros(256, np.uint8)
    for number, place in numbers.items():
        table[number] = place
    return table[analysis.labels]


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


def _in_slice_order(dataset: Dataset, analysis: Analysis) -> None:
    """Orders the frames by segment, then by slice, ascending along the slices' normal.

    highdicom sorts slices along the opposite normal (columns x rows). Positions are numbered
    anew, from 1 without gaps, and the pixels are packed from the labels in that order, with as
    many planes without voxels as save a pad byte (see `packing`).
    """
    slice_of = {stand_in_uid(k): k for k in range(len(analysis.source.headers))}
    in_manifest = {place: number for number, place in analysis.numbers_in_object.items()}
    frames: list[tuple[int, int, Dataset]] = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = int(frame.FrameContentSequence[0].DimensionIndexValues[0])
        frames.append((place, slice_of[image.ReferencedSOPInstanceUID], frame))
    of_segment = {place: frame for place, _, frame in frames}
    present = [(place, k) for place, k, _ in frames]
    for place, k in further_frames(present, len(slice_of), analysis.labels[0].size):
        frames.append((place, k, _without_voxels(of_segment[place], k)))
    frames.sort(key=lambda each: each[:2])
    position = {k: n for n, k in enumerate(sorted({k for _, k, _ in frames}), start=1)}
    for place, k, frame in frames:
        frame.FrameContentSequence[0].DimensionIndexValues = [place, position[k]]
    dataset.PerFrameFunctionalGroupsSequence = [frame for _, _, frame in frames]
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = packed(analysis.labels, [(in_manifest[place], k) for place, k, _ in frames])


def _without_voxels(frame: Dataset, k: int) -> Dataset:
    """Another frame of the same segment, on slice k."""
    other = copy.deepcopy(frame)
    image = other.DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedSOPInstanceUID = stand_in_uid(k)
    return other


def _name_sources(dataset: Dataset, source: SourceSeries) -> None:
    """Puts the true planes in the place of stand-ins, with their positions as they were sent."""
    plane_of = {stand_in_uid(k): header for k, header in enumerate(source.headers)}
    frames = dataset.PerFrameFunctionalGroupsSequence
    items = [frame.DerivationImageSequence[0].SourceImageSequence[0] for frame in frames]
    # All are looked up before any is changed: frames of one plane may share their item.
    headers = [plane_of[item.ReferencedSOPInstanceUID] for item in items]
    for frame, item, header in zip(frames, items, headers, strict=True):
        refer(item, header)
        _as_sent(
            frame.PlanePositionSequence[0],
            "ImagePositionPatient",
            header.attributes["ImagePositionPatient"],
        )
    series = dataset.ReferencedSeriesSequence[0]
    series.ReferencedInstanceSequence = [_reference(each) for each in instances_of(source)]
    _write_geometry_as_sent(dataset, source)


def _reference(header: InstanceHeader) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.sop_class_uid
    item.ReferencedSOPInstanceUID = header.sop_instance_uid
    return item


def _write_geometry_as_sent(dataset: Dataset, source: SourceSeries) -> None:
    """Puts the source's own decimal strings where highdicom formatted numbers."""
    first = source.headers[0].attributes
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0]
    _as_sent(orientation, "ImageOrientationPatient", first["ImageOrientationPatient"])
    measures = shared.PixelMeasuresSequence[0]
    _as_sent(measures, "PixelSpacing", first["PixelSpacing"])
    if source.slice_thickness_mm is not None:
        _as_sent(measures, "SliceThickness", first["SliceThickness"])


def _as_sent(item: Dataset, keyword: str, value: Any) -> None:
    # Text, not numbers: pydicom keeps the characters of a DS made from text.
    setattr(item, keyword, value)


def _segment_per_frame(dataset: Dataset) -> None:
    """Moves the segment identification of a single segment from the shared group to every frame.

    Some viewers look nowhere else; highdicom shares it when there is one segment.
    """
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    number = shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    del shared.SegmentIdentificationSequence
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        identification = Dataset()
        identification.ReferencedSegmentNumber = number
        frame.SegmentIdentificationSequence = [identification]


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
