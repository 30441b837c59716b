"""The second half of the geometry gate: do the images make one straight, even stack?

Images are ordered by the projection of ImagePositionPatient on the normal of their planes;
distances come from those projections, never from SliceThickness or SpacingBetweenSlices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.common.fates import Refusal
from services.common.sentences import Value, keywords_value
from services.imaging.header_checks import PlacedImage
from services.imaging.kinds import numbers_of, odd_ones, which
from services.imaging.telling import NOTHING_TELLING, telling_attributes

# Planes count as parallel within this angle: it moves the far corner of a 500 mm image by
# 0.25 mm, less than a voxel; cosines rounded to four decimals stay well within it.
PARALLEL_TOLERANCE_DEG = 0.03
# Two positions closer than this are one: positions sent with two decimals are each off by 0.005.
SAME_POSITION_TOLERANCE_MM = 0.01
# Pixel spacings that differ by less are one: 1e-4 mm over 512 pixels is 0.05 mm.
PIXEL_SPACING_TOLERANCE_MM = 1e-4
# A line through the positions within this angle of the normal is no tilt: rounded positions of a
# short stack reach it, a gantry is tilted by degrees. The affine keeps even this small shear.
TILT_TOLERANCE_DEG = 0.1
# A gantry is tilted by up to 30 degrees. Planes moved further sideways than along their normal
# share little of the patient with their neighbours.
WIDEST_TILT_DEG = 45.0
# Gaps that differ from the regular one by less than this share are regular: the share highdicom
# allows too, so that what passes here can be encoded as a regular volume.
SPACING_TOLERANCE = 0.01
# Gaps of positions sent with two decimals are each off by up to 0.01, and so is the one they are
# compared with; the rest is for binary fractions.
GAP_ROUNDING_MM = 0.02 + 1e-8
# No plane may lie further than this share of the spacing from where the affine puts it: gaps that
# are each nearly regular may add up along the stack.
DRIFT_TOLERANCE = 0.05
# Two doubled slices are slices that were sent again; three side by side are a part of a volume.
_FEWEST_OF_A_VOLUME = 3
# In-plane shifts against a straight line, as a share of the pixel spacing.
SHIFT_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Stack:
    """Placed images in slice order.

    Attributes:
        images: by rising distance.
        row_cosines, column_cosines: float64 [3], unit vectors, the mean of all images'
            (`mean_direction`). Senders round cosines; what a pixel measures is PixelSpacing's to
            say (PS3.3 10.7.1.3).
        normal: float64 [3], unit vector, row x column (PS3.3 C.7.6.2.1.1).
        distances: float64 [k], positions projected on the normal, mm.
    """

    images: tuple[PlacedImage, ...]
    row_cosines: NDArray[np.float64]
    column_cosines: NDArray[np.float64]
    normal: NDArray[np.float64]
    distances: NDArray[np.float64]

    @property
    def positions(self) -> NDArray[np.float64]:
        """float64 [k, 3], LPS mm."""
        return np.array([image.position for image in self.images])

    @property
    def step(self) -> NDArray[np.float64]:
        """float64 [3]: from a plane's position to the next one's, on average."""
        return (self.images[-1].position - self.images[0].position) / (len(self.images) - 1)


def build_stack(images: Sequence[PlacedImage]) -> Stack:
    """Orders parallel images; equal positions are ordered by UID, so that the order is total."""
    row = _unit(mean_direction([image.row_cosines for image in images]))
    column = _unit(mean_direction([image.column_cosines for image in images]))
    normal = _unit(np.cross(row, column))
    distances = [float(image.position @ normal) for image in images]
    order = sorted(
        range(len(images)), key=lambda n: (distances[n], images[n].header.sop_instance_uid)
    )
    return Stack(
        images=tuple(images[n] for n in order),
        row_cosines=row,
        column_cosines=column,
        normal=normal,
        distances=np.array([distances[n] for n in order]),
    )


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def mean_direction(vectors: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean of directions, whatever their order; as sent where all are the same.

    Args:
        vectors: float64 [3] each.
    """
    if all(np.array_equal(vector, vectors[0]) for vector in vectors):
        return vectors[0]
    # An exact sum has no order.
    return np.array([math.fsum(axis) for axis in np.transpose(vectors)]) / len(vectors)


def places_of(stack: Stack) -> list[list[PlacedImage]]:
    """The images at each position, by rising distance."""
    cuts = np.flatnonzero(np.diff(stack.distances) > SAME_POSITION_TOLERANCE_MM) + 1
    edges = [0, *cuts.tolist(), len(stack.images)]
    return [list(stack.images[a:b]) for a, b in pairwise(edges)]


def check_frame_of_reference(images: Sequence[PlacedImage]) -> Refusal | None:
    """Reasons ``missing_frame_of_reference`` and ``mixed_frame_of_reference``."""
    frames = [image.header.text("FrameOfReferenceUID") for image in images]
    if None in frames:
        headers = [image.header for image in images]
        odd = which(headers, [frame is None for frame in frames], " has none", " have none")
        return Refusal("missing_frame_of_reference", {"odd": odd})
    if len(set(frames)) > 1:
        values: dict[str, Value] = {"count": len(set(frames)), "odd": _odd(images, frames)}
        return Refusal("mixed_frame_of_reference", values)
    return None


def check_orientations(images: Sequence[PlacedImage]) -> Refusal | None:
    """Reason ``mixed_orientations``: planes not parallel, or turned within their plane."""
    rows = _widest_deg([image.row_cosines for image in images])
    columns = _widest_deg([image.column_cosines for image in images])
    widest = max(rows, columns)
    if not widest:
        return None
    # The directions of most images, whatever the others' are.
    usual_row = np.median([image.row_cosines for image in images], axis=0)
    usual_column = np.median([image.column_cosines for image in images], axis=0)
    away = [
        bool(
            max(
                _angles_deg(image.row_cosines[None], usual_row)[0],
                _angles_deg(image.column_cosines[None], usual_column)[0],
            )
            > PARALLEL_TOLERANCE_DEG
        )
        for image in images
    ]
    odd = "" if 2 * sum(away) >= len(images) else _odd(images, away)
    return Refusal("mixed_orientations", {"angle_deg": round(widest, 2), "odd": odd})


def check_matrix(images: Sequence[PlacedImage]) -> Refusal | None:
    """Reason ``mixed_matrix``."""
    each = [(image.columns, image.rows) for image in images]
    sizes = Counter(each)
    if len(sizes) == 1:
        return None
    names = [f"{columns} x {rows}" for (columns, rows), _ in sizes.most_common()]
    return Refusal("mixed_matrix", {"sizes": ", ".join(names), "odd": _odd(images, each)})


def check_pixel_spacing(images: Sequence[PlacedImage]) -> Refusal | None:
    """Reason ``mixed_pixel_spacing``."""
    spacings = np.array([image.pixel_spacing_mm for image in images])
    if np.ptp(spacings, axis=0).max() <= PIXEL_SPACING_TOLERANCE_MM:
        return None
    each = [image.pixel_spacing_mm for image in images]
    different = Counter(each)
    names = [f"{rows:g} x {columns:g} mm" for (rows, columns), _ in different.most_common()]
    values: dict[str, Value] = {"spacings": ", ".join(names), "odd": _odd(images, each)}
    return Refusal("mixed_pixel_spacing", values)


def check_positions(stack: Stack) -> Refusal | None:
    """Reasons ``several_volumes``, ``incomplete_volume`` and ``duplicate_position``.

    Several volumes: most positions occur more than once. Incomplete volume: of a second volume that
    lost half of its slices or more, those that are left lie side by side. Otherwise a slice is
    there once too often.
    """
    places = places_of(stack)
    repeated = [place for place in places if len(place) > 1]
    if not repeated:
        return None
    if holds_several_volumes(places):
        volumes = max(map(len, places))
        attribute = keywords_value(telling_attributes(places)) or NOTHING_TELLING
        return Refusal("several_volumes", {"volumes": volumes, "attribute": attribute})
    if _holds_part_of_another(places):
        shared = {id(image) for place in repeated for image in place}
        odd = which(
            [image.header for image in stack.images],
            [id(image) in shared for image in stack.images],
            several=" share their positions",
        )
        values: dict[str, Value] = {"volumes": max(map(len, places)), "expected": len(places)}
        return Refusal("incomplete_volume", {**values, "slices": len(repeated), "odd": odd})
    first = repeated[0]
    return Refusal(
        "duplicate_position",
        {
            "position_mm": round(float(first[0].position @ stack.normal), 3),
            "images": numbers_of([image.header for image in first]),
        },
    )


def holds_several_volumes(places: Sequence[Sequence[PlacedImage]]) -> bool:
    """Whether most positions occur more than once."""
    repeated = sum(len(place) > 1 for place in places)
    return len(places) > 1 and 2 * repeated > len(places)


def _holds_part_of_another(places: Sequence[Sequence[PlacedImage]]) -> bool:
    """Whether repeated positions lie side by side and are a quarter of all, three at least."""
    repeated = [k for k, place in enumerate(places) if len(place) > 1]
    side_by_side = bool(repeated) and repeated[-1] - repeated[0] == len(repeated) - 1
    return side_by_side and len(repeated) >= max(_FEWEST_OF_A_VOLUME, len(places) / 4)


def check_tilt(stack: Stack) -> Refusal | None:
    """Reason ``gantry_tilt``: the line through the positions is not the planes' normal."""
    tilt = tilt_deg(stack)
    if tilt > TILT_TOLERANCE_DEG:
        length = float(stack.distances[-1] - stack.distances[0])
        rounded = _rounded(stack, length * math.tan(math.radians(tilt)))
        return Refusal("gantry_tilt", {"tilt_deg": round(tilt, 2), "rounded": rounded})
    return None


def tilt_deg(stack: Stack) -> float:
    """The angle between the line through the positions and the planes' normal, in degrees."""
    return float(_angles_deg(stack.step[None], stack.normal)[0])


def check_straightness(stack: Stack) -> Refusal | None:
    """Reason ``shifted_planes``: within their planes the images do not follow a straight line."""
    along = (stack.distances - stack.distances[0]) / float(stack.step @ stack.normal)
    from_line = stack.positions - (stack.images[0].position + along[:, None] * stack.step)
    shifts = np.linalg.norm(from_line, axis=1)
    shift = float(shifts.max())
    allowed = max(
        SAME_POSITION_TOLERANCE_MM, SHIFT_TOLERANCE * min(stack.images[0].pixel_spacing_mm)
    )
    if shift <= allowed:
        return None
    rounded = _rounded(stack, shift)
    odd = "" if rounded else _odd(stack.images, [bool(each > allowed) for each in shifts])
    values: dict[str, Value] = {"shift_mm": round(shift, 3), "odd": odd, "rounded": rounded}
    return Refusal("shifted_planes", values)


def check_spacing(stack: Stack) -> Refusal | None:
    """Reasons ``missing_slice`` and ``uneven_spacing``.

    The regular spacing is the (lower) median gap. Slices are missing where every irregular gap
    is a whole multiple of the regular spacing; anything else is uneven.
    """
    gaps, regular, multiples = _gaps(stack)
    tolerance = max(GAP_ROUNDING_MM, SPACING_TOLERANCE * regular)
    whole = np.abs(gaps - multiples * regular) <= tolerance * np.maximum(multiples, 1)
    if not bool((whole & (multiples >= 1)).all()):
        return uneven_spacing(stack)
    if multiples.max() > 1:
        return _missing(stack, gaps, int(multiples.argmax()), regular)
    spacing = float(gaps.mean())
    drift = stack.distances - stack.distances[0] - spacing * np.arange(len(stack.images))
    if np.abs(drift).max() > max(GAP_ROUNDING_MM, DRIFT_TOLERANCE * spacing):
        return uneven_spacing(stack)
    return None


def holds_two_ranges(stack: Stack) -> bool:
    """Whether the wide gaps are equal and side by side at one end, two of them at least.

    So a head is scanned in two ranges: close slices at the base, wide ones above. Slices that were
    lost leave gaps anywhere. For stacks in which every gap is a whole multiple of the regular gap.
    """
    _, _, multiples = _gaps(stack)
    wide = np.flatnonzero(multiples > 1)
    side_by_side = len(wide) >= 2 and int(wide[-1] - wide[0]) == len(wide) - 1
    at_an_end = side_by_side and (wide[0] == 0 or wide[-1] == len(multiples) - 1)
    return bool(at_an_end and np.ptp(multiples[wide]) == 0)


def uneven_spacing(stack: Stack) -> Refusal:
    """Reason ``uneven_spacing``, with the narrowest and the widest gap."""
    gaps = np.diff(stack.distances)
    least, most = round(float(gaps.min()), 3), round(float(gaps.max()), 3)
    rounded = _rounded(stack, float(np.abs(gaps - gaps.mean()).max()))
    widest = int(gaps.argmax())
    ends = [image.header for image in stack.images[widest : widest + 2]]
    odd = "" if rounded else f", the widest gap between images {numbers_of(ends)}"
    values: dict[str, Value] = {"least_mm": least, "most_mm": most, "odd": odd, "rounded": rounded}
    return Refusal("uneven_spacing", values)


def _rounded(stack: Stack, off_mm: float) -> str:
    """Words on positions that are rounded so much that it may be why they are off; else empty."""
    numbers = [
        Decimal(number)
        for image in stack.images
        if isinstance(texts := image.header.attributes.get("ImagePositionPatient"), list)
        for number in texts
    ]
    # Zeros behind the last digit tell nothing.
    last_place = min((int(each.normalize().as_tuple().exponent) for each in numbers), default=-9)
    step_mm = 10.0**last_place
    # Half a step in each of three coordinates, of each of the two places that are compared.
    if off_mm > math.sqrt(3) * step_mm:
        return ""
    return f"; their positions are told to {step_mm:g} mm only, which may be the whole reason"


def _odd(images: Sequence[PlacedImage], kinds: Sequence[Hashable]) -> str:
    return odd_ones([image.header for image in images], kinds)


def _gaps(stack: Stack) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """The gaps in mm, the regular one among them, and the nearest multiple of it for each."""
    gaps = np.diff(stack.distances)
    regular = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    return gaps, regular, np.rint(gaps / regular)


def _missing(stack: Stack, gaps: NDArray[np.float64], widest: int, regular: float) -> Refusal:
    values: dict[str, Value] = {
        "before": stack.images[widest].number,
        "after": stack.images[widest + 1].number,
        "gap_mm": round(float(gaps[widest]), 3),
        "spacing_mm": round(regular, 3),
    }
    return Refusal("missing_slice", values)


def _widest_deg(vectors: Sequence[NDArray[np.float64]]) -> float:
    """The widest angle between two directions; 0 where all lie close to their mean."""
    mean, all_vectors = mean_direction(vectors), np.array(vectors)
    from_mean = _angles_deg(all_vectors, mean)
    if mean.any() and from_mean.max() <= PARALLEL_TOLERANCE_DEG:
        return 0.0
    # Opposite directions cancel: their mean has no angle to anything.
    return float(_angles_deg(all_vectors, all_vectors[from_mean.argmax()]).max())


def _angles_deg(vectors: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    # atan2 keeps small angles, which acos of a rounded cosine loses.
    sines = np.linalg.norm(np.cross(vectors, other), axis=1)
    return np.degrees(np.arctan2(sines, vectors @ other))
