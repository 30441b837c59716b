"""Writing a job's measurements as a Comprehensive 3D SR, TID 1500 (PS3.16).

Every segment that the model looks for has a measurement group: with its volume and a reference to
the SEG when it was found, with the coded statement "not detected" when it was not. What viewers
need beyond the standard is in docs/interop.md, rows S-1 to S-30.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues,
    ImageLibraryEntryDescriptors,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from models.manifest import Segment
from models.manifest.schema import VolumeMeasurement
from services.common.headers import InstanceHeader
from services.common.identity import is_strict_uid
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.interval import interval_told
from services.reporting.analysis.measure import MeasuredValue, SegmentCount
from services.reporting.job import Job
from services.reporting.kinds.report.names import KEY_SLICE, SR
from services.reporting.kinds.report.regions import key_slice, outline
from services.reporting.kinds.segmentation.names import SEG
from services.reporting.objects.coding import code_item, dicom_code
from services.reporting.objects.equipment import (
    AXIAL_VERSION,
    MANUFACTURER,
    MODEL_NAME,
    serial_number,
)
from services.reporting.objects.finishing import as_file, finish
from services.reporting.objects.forms import Form
from services.reporting.objects.naming import (
    device_uid,
    series_description,
    tracking_identifier,
    tracking_uid,
)
from services.reporting.objects.referring import code_sequence, reference, referenced_series
from services.reporting.objects.sequences import (
    element,
    item_of,
    put_sequence,
    sequence,
    sequence_item,
)
from services.reporting.objects.texts import ascii_text
from services.reporting.source.references import (
    frames_by_instance,
    instances_of,
    referenced_frame,
    tile_of,
)
from services.reporting.source.series import SourceSeries
from services.reporting.source.stand_ins import identity_of, stand_in
from services.reporting.source.validity import items_of

# PS3.16 CID 100: the imaging procedure, where the manifest names none.
_PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
}
_ANY_PROCEDURE = Code("43468-8", "LN", "XR unspecified body region")

_NOT_DETECTED = Code("260415000", "SCT", "Not detected")
# PS3.16 TID 310 and CID 225: how far below and above the value the true one may lie.
_BELOW = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
_ABOVE = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
_SOURCE = Code("260753009", "SCT", "Source")
# Descriptors that differ from slice to slice do not belong to a group of images.
_OF_ONE_SLICE = frozenset({"Image Position (Patient) X", "Image Position (Patient) Y",
                           "Image Position (Patient) Z"})  # fmt: skip


_INSTANCES = "ReferencedSOPSequence"
_THICKNESS = "Slice Thickness"

_AnyGroup = (
    VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations
)


@dataclass(frozen=True, slots=True)
class Context:
    """What a report tells beyond the analysis itself.

    Attributes:
        remarks: sentences for the reader, by the segment's number in the manifest.
        predecessor: identity of the SR that this one replaces.
    """

    remarks: Mapping[int, str] = field(default_factory=dict[int, str])
    predecessor: Dataset | None = None


def encode_report(analysis: Analysis, form: Form, number: int, context: Context) -> bytes:
    """The SR of a job as a file.

    Args:
        form: whether groups refer to segments of the SEG of this form, or hold a 2D region.
        number: the series number.
    """
    job, source = analysis.job, analysis.source
    image = stand_in(source.headers[0], source)
    dataset = Comprehensive3DSR(
        evidence=[image, *_evidence(analysis, form)],
        content=_content(analysis, form, context)[0],
        series_instance_uid=SR.series_uid(job.job_uid, form),
        series_number=number,
        sop_instance_uid=SR.sop_instance_uid(job.job_uid, form),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        device_serial_number=serial_number(job),
        software_versions=AXIAL_VERSION,
        is_complete=not job.incomplete,
        previous_versions=[context.predecessor] if context.predecessor else None,
        series_description=series_description(
            job.manifest,
            SR.called,
            [segment.label for segment in job.manifest.segments],
            job.revision,
        ),
    )
    # Hundreds of images: they come in only now, as bytes. TID 1500: the library stands before the
    # measurements, which are the last item.
    *before, measurements = dataset.ContentSequence
    put_sequence(
        dataset,
        "ContentSequence",
        [*map(item_of, before), _image_library(source, image), item_of(measurements)],
    )
    put_sequence(
        dataset, "CurrentRequestedProcedureEvidenceSequence", [_all_evidence(analysis, form)]
    )
    finish(dataset, job, source)
    # Nobody has read it yet: COMPLETE (or PARTIAL, PS3.3 C.17.2) and UNVERIFIED say so;
    # PRELIMINARY would hide it in places.
    del dataset.PreliminaryFlag
    if job.incomplete:
        dataset.CompletionFlagDescription = job.incomplete
    # Type 2: scanners write it without items, or with items that lack a UID.
    steps = items_of(source.first, "ReferencedPerformedProcedureStepSequence")
    dataset.ReferencedPerformedProcedureStepSequence = [
        _step(item) for item in steps if _names_instance(item)
    ]
    return as_file(dataset)


def _evidence(analysis: Analysis, form: Form) -> list[Dataset]:
    """What the measurements refer to, without which highdicom writes none."""
    if form.has(KEY_SLICE):
        slices = {key_slice(count.voxels) for count in analysis.counts if count.found}
        return [identity_of(analysis.source.headers[k]) for k in slices]
    return [_segmentation(analysis, form)] if analysis.found else []


def _segmentation(analysis: Analysis, form: Form) -> Dataset:
    """The UIDs of the job's SEG."""
    job_uid = analysis.job.job_uid
    identity = Dataset()
    identity.SOPClassUID = SEG.sop_class_uid
    identity.SOPInstanceUID = SEG.sop_instance_uid(job_uid, form)
    identity.StudyInstanceUID = analysis.job.study_uid
    identity.SeriesInstanceUID = SEG.series_uid(job_uid, form)
    return identity


def _all_evidence(analysis: Analysis, form: Form) -> bytes:
    """An item of CurrentRequestedProcedureEvidenceSequence (PS3.3 C.17.2): every instance of the
    source, and the SEG where there is one."""
    job, source = analysis.job, analysis.source
    series = [referenced_series(job.series_uid, _INSTANCES, instances_of(source))]
    if analysis.found:
        ours = _segmentation(analysis, form)
        named = sequence_item(reference(ours.SOPClassUID, ours.SOPInstanceUID))
        series.append(
            sequence_item(
                sequence(_INSTANCES, [named]), element("SeriesInstanceUID", ours.SeriesInstanceUID)
            )
        )
    return sequence_item(
        sequence("ReferencedSeriesSequence", series), element("StudyInstanceUID", job.study_uid)
    )


def _names_instance(item: Dataset) -> bool:
    return all(
        is_strict_uid(str(item.get(keyword) or ""))
        for keyword in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
    )


def _step(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.ReferencedSOPClassUID
    item.ReferencedSOPInstanceUID = source.ReferencedSOPInstanceUID
    return item


def _content(analysis: Analysis, form: Form, context: Context) -> MeasurementReport:
    """The document without its image library."""
    manifest = analysis.job.manifest
    procedure = (
        dicom_code(manifest.procedure_reported)
        if manifest.procedure_reported
        else _PROCEDURES.get(analysis.source.modality, _ANY_PROCEDURE)
    )
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(analysis.job)),
        procedure_reported=procedure,
        imaging_measurements=[_group(analysis, count, form, context) for count in analysis.counts],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _observer(job: Job) -> ObserverContext:
    """The algorithm as the device that observed."""
    identity = job.manifest.identity
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(job.model_digest),
            name=ascii_text(identity.title, 64),
            manufacturer_name=ascii_text(identity.manufacturer, 64),
            model_name=identity.name,
            serial_number=serial_number(job),
        ),
    )


def _image_library(source: SourceSeries, image: Dataset) -> bytes:
    """TID 1600 with one group for the series: what its images share is said once."""
    frames = frames_by_instance(source)
    entries = [
        _library_entry(header, frames.get(header.sop_instance_uid, ()))
        for header in instances_of(source)
    ]
    shared = map(item_of, _shared_descriptors(image))
    group, library = _container(codes.DCM.ImageLibraryGroup), _container(codes.DCM.ImageLibrary)
    put_sequence(group, "ContentSequence", [*shared, *entries])
    put_sequence(library, "ContentSequence", [item_of(group)])
    return item_of(library)


def _container(name: Code) -> Dataset:
    container = Dataset()
    container.RelationshipType = "CONTAINS"
    container.ValueType = "CONTAINER"
    container.ConceptNameCodeSequence = [code_item(name)]
    container.ContinuityOfContent = "CONTINUOUS"
    return container


def _library_entry(header: InstanceHeader, frames: Sequence[int]) -> bytes:
    """An IMAGE item (PS3.3 C.17.3)."""
    referenced = sequence_item(reference(header.sop_class_uid, header.sop_instance_uid, frames))
    return sequence_item(
        sequence(_INSTANCES, [referenced]),
        element("RelationshipType", "CONTAINS"),
        element("ValueType", "IMAGE"),
        code_sequence("ConceptNameCodeSequence", _SOURCE),
    )


def _shared_descriptors(image: Dataset) -> list[Dataset]:
    """TID 1602 as far as it holds for all images; without a thickness that is not known."""
    left_out = _OF_ONE_SLICE
    if image.SliceThickness is None:
        # highdicom wants a number; the item that it makes of it is not kept.
        image = copy(image)
        image.SliceThickness = 0
        left_out = left_out | {_THICKNESS}
    return [
        item
        for item in ImageLibraryEntryDescriptors(image)
        if item.ConceptNameCodeSequence[0].CodeMeaning not in left_out
    ]


def _group(analysis: Analysis, count: SegmentCount, form: Form, context: Context) -> _AnyGroup:
    """The measurement group of one segment: TID 1411 when it was found, TID 1501 when not."""
    job = analysis.job
    segment = job.manifest.segment(count.number)
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=tracking_uid(job.job_uid, segment.number),
            identifier=tracking_identifier(job.manifest, segment.label),
        ),
        "finding_category": dicom_code(segment.category),
        "finding_type": dicom_code(segment.type),
        "finding_sites": [FindingSite(dicom_code(segment.site))],
        "algorithm_id": _algorithm(job),
    }
    if not count.found:
        presence = QualitativeEvaluation(codes.DCM.PresenceOfProperty, _NOT_DETECTED)
        absent = MeasurementsAndQualitativeEvaluations(**common, qualitative_evaluations=[presence])
        _remark(absent, " ".join(_remarks(analysis, count, context)))
        return absent
    if form.has(KEY_SLICE):
        common["referenced_regions"] = [_region(analysis, count)]
    else:
        common["referenced_segment"] = ReferencedSegment(
            sop_class_uid=SEG.sop_class_uid,
            sop_instance_uid=SEG.sop_instance_uid(job.job_uid, form),
            segment_number=analysis.numbers_in_object[count.number],
            source_series=SourceSeriesForSegmentation(job.series_uid),
        )
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        **common, measurements=_measurements(analysis, segment)
    )
    # What has to be seen comes before what explains the numbers.
    told = [*_remarks(analysis, count, context), *_intervals_told(analysis, segment)]
    _remark(group, " ".join(filter(None, told)))
    return group


def _remarks(analysis: Analysis, count: SegmentCount, context: Context) -> list[str]:
    """What a reader has to see; what is said of the series as a whole, in its first group."""
    of_series = analysis.job.left_out if count is analysis.counts[0] else ()
    return [*filter(None, [context.remarks.get(count.number)]), *of_series]


def _algorithm(job: Job) -> AlgorithmIdentification:
    identity = job.manifest.identity
    return AlgorithmIdentification(
        name=ascii_text(identity.title, 64),
        version=identity.version,
        family=dicom_code(identity.algorithm_family),
        manufacturer=ascii_text(identity.manufacturer, 64),
    )


def _measurements(analysis: Analysis, segment: Segment) -> list[Measurement]:
    """What is known of a segment, each with the concept and the unit of its own."""
    asked = analysis.job.manifest.measurements
    return [
        _measurement(value, value.value, asked[value.wanted])
        for value in analysis.values
        if value.segment_number == segment.number and value.value is not None
    ]


def _measurement(measured: MeasuredValue, value: float, asked: VolumeMeasurement) -> Measurement:
    unit = dicom_code(asked.unit)
    item = Measurement(
        name=dicom_code(asked.concept),
        value=value,
        unit=unit,
        method=codes.DCM.SumOfSegmentedVoxelMethodForVolume,
    )
    if measured.low is not None and measured.high is not None:
        for code, distance in ((_BELOW, value - measured.low), (_ABOVE, measured.high - value)):
            # highdicom's own MeasurementProperties have no unit, and these have the value's.
            item[0].ContentSequence.append(
                NumContentItem(
                    name=code,
                    value=round(distance, 6),
                    unit=unit,
                    relationship_type=RelationshipTypeValues.HAS_PROPERTIES,
                )
            )
    return item


def _intervals_told(analysis: Analysis, segment: Segment) -> list[str]:
    return [
        interval_told(analysis.job, value)
        for value in analysis.values
        if value.segment_number == segment.number
    ]


def _region(analysis: Analysis, count: SegmentCount) -> ImageRegion:
    k = key_slice(count.voxels)
    header = analysis.source.headers[k]
    corners = outline(analysis.labels[k] == count.number)
    tile, frame = tile_of(header), referenced_frame(header)
    if tile is not None:  # a region is told in the coordinates of the whole matrix
        corners += (tile.left, tile.top)
    return ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=corners,
        source_image=SourceImageForRegion(
            header.sop_class_uid,
            header.sop_instance_uid,
            None if frame is None else [frame],
        ),
    )


def _remark(group: _AnyGroup, sentence: str | None) -> None:
    if sentence:
        group[0].ContentSequence.append(
            TextContentItem(
                name=codes.DCM.Comment,
                value=ascii_text(sentence, 1024),
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
