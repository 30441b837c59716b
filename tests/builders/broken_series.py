"""Series with one deliberate fault each, by the reason that the gate must give."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML
from pydicom.valuerep import format_number_as_ds

from services.common.identity import derived_uid
from services.imaging import write_mr_series
from tests.builders.series import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    affine_of,
    attributes_of,
    edit,
    small_volume,
    sound_series,
)

Builder = Callable[[Path], list[Path]]


def missing_slice(folder: Path) -> list[Path]:
    """The fourth of seven slices is not there."""
    files = sound_series(folder)
    files.pop(3).unlink()
    return files


def duplicate_position(folder: Path) -> list[Path]:
    """The third slice was sent twice, as two instances."""
    files = sound_series(folder)
    return [*files, _copy(files[2], folder / "IM0099.dcm", InstanceNumber=99)]


def mixed_orientations(folder: Path) -> list[Path]:
    """One slice of an axial series is turned by five degrees."""
    files = sound_series(folder)
    angle = np.radians(5)
    edit(files[3], ImageOrientationPatient=[1, 0, 0, 0, np.cos(angle), np.sin(angle)])
    return files


def localizer(folder: Path) -> list[Path]:
    """One scout image."""
    volume = small_volume((1, 12, 10))
    kinds = attributes_of(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    return write_mr_series(volume, folder, kinds)


def crossing_localizer(folder: Path) -> list[Path]:
    """Three scouts that cross, in one series."""
    kinds = attributes_of(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    files: list[Path] = []
    for name, directions in (("a", AXIAL), ("s", SAGITTAL), ("c", CORONAL)):
        volume = small_volume((1, 12, 10), affine_of(directions))
        (file,) = write_mr_series(volume, folder / name, kinds)
        files.append(edit(file, SOPInstanceUID=derived_uid("test", "scout", name)))
    return files


def gantry_tilt(folder: Path) -> list[Path]:
    """Slices along the patient, planes tilted by 15 degrees, as a CT of the head."""
    files = sound_series(folder)
    # A decimal string has room for 16 characters.
    along, across = (round(float(f(np.radians(15))), 12) for f in (np.cos, np.sin))
    for file in files:
        edit(file, ImageOrientationPatient=[1, 0, 0, 0, along, -across])
    return files


def uneven_spacing(folder: Path) -> list[Path]:
    """2.5 mm apart, then one of 4 mm."""
    files = sound_series(folder)
    for file in files[4:]:
        move(file, (0, 0, 1.5))
    return files


def drifting_spacing(folder: Path) -> list[Path]:
    """Every gap nearly regular, but the second half of a long stack lies off the grid."""
    files = sound_series(folder, small_volume((61, 4, 5)))
    for number, file in enumerate(files[30:]):
        move(file, (0, 0, 0.02 * number))
    return files


def shifted_planes(folder: Path) -> list[Path]:
    """One slice is shifted sideways within its plane."""
    files = sound_series(folder)
    move(files[3], (3.0, 0, 0))
    return files


def several_echoes(folder: Path) -> list[Path]:
    """Two echoes of one volume."""
    files: list[Path] = []
    for number, echo_time in enumerate((4.6, 9.2)):
        attributes = attributes_of(echo_time_ms=echo_time)
        for file in write_mr_series(small_volume(), folder / f"e{number}", attributes):
            uid = derived_uid("test", "echo", number, file.name)
            files.append(edit(file, SOPInstanceUID=uid))
    return files


def interleaved_echoes(folder: Path) -> list[Path]:
    """Two echoes, the second's slices half-way between the first's."""
    files = several_echoes(folder)
    for file in files[7:]:
        move(file, (0, 0, 1.25))
    return files


def adjoining_components(folder: Path) -> list[Path]:
    """Magnitude in the lower slices, phase in the upper ones."""
    files = sound_series(folder)
    for n, file in enumerate(files):
        edit(file, ImageType=["ORIGINAL", "PRIMARY", "M" if n < 4 else "P", "ND"])
    return files


def incomplete_time_series(folder: Path) -> list[Path]:
    """Three time points, told apart by their number only; the last one lacks slices."""
    return time_series(folder)[:-2]


def time_series(folder: Path) -> list[Path]:
    """Three time points, told apart by their number only."""
    files = sound_series(folder)
    later = [
        _copy(file, folder / f"t{time}-{file.name}", InstanceNumber=100 * time + n)
        for time in (1, 2)
        for n, file in enumerate(files)
    ]
    return [*files, *later]


def half_of_a_second_volume(folder: Path) -> list[Path]:
    """Of a second time point, told apart by its number only, three slices arrived."""
    return time_series(folder)[: 7 + 3]


def pepolar(folder: Path) -> list[Path]:
    """Volumes of GE's sequence whose polarity, and with it the order of rows, alternates."""
    files = sound_series(folder)
    for file in files:
        data = pydicom.dcmread(file)
        block = data.private_block(0x0019, "GEMS_ACQU_01", create=True)
        block.add_new(0x9C, "LO", "research/ABCD/epi_pepolar")
        block.add_new(0xB3, "DS", "2")
        data.save_as(file)
    return files


def mixed_matrix(folder: Path) -> list[Path]:
    """One slice has fewer rows."""
    files = sound_series(folder)
    data = pydicom.dcmread(files[2])
    data.Rows -= 2
    data.PixelData = data.PixelData[: data.Rows * data.Columns * 2]
    data.save_as(files[2])
    return files


def mixed_pixel_spacing(folder: Path) -> list[Path]:
    """One slice has other pixels."""
    files = sound_series(folder)
    edit(files[2], PixelSpacing=[1.2, 1.2])
    return files


def missing_position(folder: Path) -> list[Path]:
    """One image does not say where it lies."""
    files = sound_series(folder)
    edit(files[2], ImagePositionPatient=None)
    return files


def meaningless_orientation(folder: Path) -> list[Path]:
    """Six zeros as direction cosines, as some converters write."""
    files = sound_series(folder)
    edit(files[2], ImageOrientationPatient=[0, 0, 0, 0, 0, 0])
    return files


def missing_frame_of_reference(folder: Path) -> list[Path]:
    """No coordinate system is named."""
    return [edit(file, FrameOfReferenceUID=None) for file in sound_series(folder)]


def mixed_frame_of_reference(folder: Path) -> list[Path]:
    """The patient was moved between two images."""
    files = sound_series(folder)
    edit(files[5], FrameOfReferenceUID=derived_uid("test", "other frame"))
    return files


def colour_image(folder: Path) -> list[Path]:
    """Pictures in colour."""
    files = sound_series(folder)
    for file in files:
        data = pydicom.dcmread(file)
        data.SamplesPerPixel = 3
        data.PlanarConfiguration = 0
        data.PhotometricInterpretation = "RGB"
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit = 7
        data.PixelData = bytes(data.Rows * data.Columns * 3)
        data.save_as(file)
    return files


def modality_lut(folder: Path) -> list[Path]:
    """One image's stored values mean what a table says (PS3.3 C.11.1)."""
    files = sound_series(folder)
    table = Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.ModalityLUTType = "US"
    table.LUTData = np.array([0, 10, 40, 90], "<u2").tobytes()
    edit(files[3], ModalityLUTSequence=[table])
    return files


def enhanced_multiframe(folder: Path) -> list[Path]:
    """One object with all frames."""
    (file,) = sound_series(folder, small_volume((1, 12, 10)))
    return [edit(file, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", NumberOfFrames=7)]


def mosaic(folder: Path) -> list[Path]:
    """All slices tiled in one image."""
    kinds = attributes_of(image_type=("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"))
    return write_mr_series(small_volume((1, 24, 20)), folder, kinds)


def unreadable_transfer_syntax(folder: Path) -> list[Path]:
    """Images in a film codec."""
    files = sound_series(folder)
    for file in files:
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = MPEG2MPML
        data.PixelData = encapsulate([b"\0" * 16])
        data["PixelData"].is_undefined_length = True
        data.save_as(file)
    return files


def single_slice(folder: Path) -> list[Path]:
    """One image that is no scout."""
    return sound_series(folder, small_volume((1, 12, 10)))


def move(file: Path, by_mm: tuple[float, float, float]) -> None:
    """Shifts an image's position, LPS mm."""
    data = pydicom.dcmread(file)
    position = np.array(data.ImagePositionPatient, float) + by_mm
    edit(file, ImagePositionPatient=[format_number_as_ds(x) for x in position])


BROKEN: Mapping[str, tuple[Builder, ...]] = {
    "missing_slice": (missing_slice,),
    "duplicate_position": (duplicate_position,),
    "mixed_orientations": (mixed_orientations,),
    "localizer": (localizer, crossing_localizer),
    "gantry_tilt": (gantry_tilt,),
    "incomplete_volume": (half_of_a_second_volume,),
    "reversed_rows": (pepolar,),
    "uneven_spacing": (uneven_spacing, drifting_spacing),
    "shifted_planes": (shifted_planes,),
    "several_volumes": (
        several_echoes,
        interleaved_echoes,
        adjoining_components,
        incomplete_time_series,
    ),
    "mixed_matrix": (mixed_matrix,),
    "mixed_pixel_spacing": (mixed_pixel_spacing,),
    "missing_geometry": (missing_position, meaningless_orientation),
    "missing_frame_of_reference": (missing_frame_of_reference,),
    "mixed_frame_of_reference": (mixed_frame_of_reference,),
    "colour_image": (colour_image,),
    "modality_lut": (modality_lut,),
    "enhanced_multiframe": (enhanced_multiframe,),
    "mosaic": (mosaic,),
    "transfer_syntax_unreadable": (unreadable_transfer_syntax,),
    "single_slice": (single_slice,),
}


def _copy(file: Path, target: Path, **attributes: object) -> Path:
    shutil.copy(file, target)
    return edit(target, SOPInstanceUID=derived_uid("test", "copy", target.name), **attributes)
