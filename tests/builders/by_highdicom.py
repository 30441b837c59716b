"""A job's SEG and SR as highdicom builds them from every plane of the source, to compare with."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from highdicom.seg import Segmentation
from highdicom.sr import Comprehensive3DSR
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import MRImageStorage

from services.common.headers import InstanceHeader
from services.reporting.analysis.analysis import Analysis
from services.reporting.kinds.report import writing as report_writing
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.kinds.segmentation import writing as segmentation_writing
from services.reporting.kinds.segmentation.names import KEEP_EMPTY_FRAMES
from services.reporting.kinds.segmentation.packing import further_frames, packed
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.coding import code_item
from services.reporting.objects.forms import Form
from services.reporting.source.references import (
    frames_by_instance,
    instances_of,
    preserved,
    referenced_frame,
)
from services.reporting.source.series import SourceSeries
from services.reporting.source.stand_ins import identity_of, stand_in


def segmentation_by_highdicom(analysis: Analysis, form: Form, number: int) -> bytes:
    """`encode_segmentation`, by data sets alone."""

    def build(**given: Any) -> Segmentation:
        given["source_images"] = _planes(analysis.source)
        given["pixel_array"] = _renumbered(analysis)
        given["omit_empty_frames"] = not form.has(KEEP_EMPTY_FRAMES)
        return Segmentation(**given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation_writing, "Segmentation", build)
        patch.setattr(segmentation_writing, "_organise", lambda *_: None)
        patch.setattr(segmentation_writing, "_write_frames", _write_frames)
        patch.setattr(segmentation_writing, "put_sequence", _put_references(analysis.source))
        return encode_segmentation(analysis, form, number)


def report_by_highdicom(analysis: Analysis, form: Form, number: int, context: Context) -> bytes:
    """`encode_report`, by data sets alone."""
    source = analysis.source

    def build(evidence: list[Dataset], **given: Any) -> Comprehensive3DSR:
        every = [evidence[0], *map(identity_of, instances_of(source)[1:])]
        if analysis.found:
            every.append(report_writing._segmentation(analysis, form))
        return Comprehensive3DSR(evidence=every, **given)

    def put(dataset: Dataset, keyword: str, _items: Any) -> None:
        if keyword == "ContentSequence":
            *before, measurements = dataset.ContentSequence
            library = _library(source, stand_in(source.headers[0], source))
            dataset.ContentSequence = [*before, library, measurements]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_writing, "Comprehensive3DSR", build)
        patch.setattr(report_writing, "_image_library", lambda *_: b"")
        patch.setattr(report_writing, "put_sequence", put)
        return encode_report(analysis, form, number, context)


def _planes(source: SourceSeries) -> list[Dataset]:
    planes = [stand_in(header, source) for header in source.headers]
    for k, plane in enumerate(planes):
        plane.SOPClassUID = MRImageStorage
        plane.SOPInstanceUID = _stand_in_uid(k)
    return planes


def _stand_in_uid(k: int) -> str:
    return f"2.25.{k + 1}"


def _renumbered(analysis: Analysis) -> np.ndarray[Any, Any]:
    table = np.zeros(256, np.uint8)
    for number, place in analysis.numbers_in_object.items():
        table[number] = place
    return table[analysis.labels]


def _write_frames(dataset: Dataset, analysis: Analysis, _present: Any) -> None:
    headers = analysis.source.headers
    slice_of = {_stand_in_uid(k): k for k in range(len(headers))}
    in_manifest = {place: number for number, place in analysis.numbers_in_object.items()}
    frames: list[tuple[int, int, Dataset]] = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        place = int(frame.FrameContentSequence[0].DimensionIndexValues[0])
        frames.append((place, slice_of[_image(frame).ReferencedSOPInstanceUID], frame))
    of_segment = {place: frame for place, _, frame in frames}
    present = [(place, k) for place, k, _ in frames]
    for place, k in further_frames(present, len(headers), analysis.labels[0].size):
        frames.append((place, k, of_segment[place]))
    # Frames of one plane share their items.
    frames = [(place, k, copy.deepcopy(frame)) for place, k, frame in frames]
    frames.sort(key=lambda each: each[:2])
    position = {k: n for n, k in enumerate(sorted({k for _, k, _ in frames}), start=1)}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for place, k, frame in frames:
        frame.FrameContentSequence[0].DimensionIndexValues = [place, position[k]]
        _refer(_image(frame), headers[k])
        sent: Any = headers[k].attributes["ImagePositionPatient"]
        frame.PlanePositionSequence[0].ImagePositionPatient = sent
        if "SegmentIdentificationSequence" in shared:
            identification = Dataset()
            identification.ReferencedSegmentNumber = place
            frame.SegmentIdentificationSequence = [identification]
    dataset.PerFrameFunctionalGroupsSequence = [frame for _, _, frame in frames]
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = packed(analysis.labels, [(in_manifest[place], k) for place, k, _ in frames])


def _image(frame: Dataset) -> Dataset:
    return frame.DerivationImageSequence[0].SourceImageSequence[0]


def _refer(item: Dataset, header: InstanceHeader) -> None:
    item.ReferencedSOPClassUID = header.sop_class_uid
    item.ReferencedSOPInstanceUID = header.sop_instance_uid
    frame = referenced_frame(header)
    if frame is not None:
        item.ReferencedFrameNumber = frame
    item.SpatialLocationsPreserved = preserved(header)


def _put_references(source: SourceSeries) -> Any:
    def put(dataset: Dataset, _keyword: str, _items: Any) -> None:
        items = list[Dataset]()
        for header in instances_of(source):
            item = Dataset()
            item.ReferencedSOPClassUID = header.sop_class_uid
            item.ReferencedSOPInstanceUID = header.sop_instance_uid
            items.append(item)
        dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence = items

    return put


def _library(source: SourceSeries, image: Dataset) -> Dataset:
    frames = frames_by_instance(source)
    entries = [_entry(each, frames.get(each.sop_instance_uid)) for each in instances_of(source)]
    group = report_writing._container(codes.DCM.ImageLibraryGroup)
    group.ContentSequence = [*report_writing._shared_descriptors(image), *entries]
    library = report_writing._container(codes.DCM.ImageLibrary)
    library.ContentSequence = [group]
    return library


def _entry(header: InstanceHeader, frames: list[int] | None) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = header.sop_class_uid
    reference.ReferencedSOPInstanceUID = header.sop_instance_uid
    if frames is not None:
        reference.ReferencedFrameNumber = list(frames)
    entry = Dataset()
    entry.RelationshipType = "CONTAINS"
    entry.ValueType = "IMAGE"
    entry.ConceptNameCodeSequence = [code_item(report_writing._SOURCE)]
    entry.ReferencedSOPSequence = [reference]
    return entry
