"""Which objects of a series are its images, and which images are odd ones among the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from services.common.headers import InstanceHeader, codes_of
from services.imaging.frames import frame_of

# Pictures of a screen (PS3.4 B.5): they have no place in the patient.
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_MOST_NUMBERS = 5


@dataclass(frozen=True, slots=True)
class SeriesImages:
    """The images of a series.

    Attributes:
        headers: of those that may be slices of a volume.
        left_out: a sentence about images that cannot be, empty where there are none.
    """

    headers: tuple[InstanceHeader, ...]
    left_out: str = ""


def images_of(headers: Sequence[InstanceHeader]) -> SeriesImages:
    """The images among the objects of a series.

    An image is an object with pixels. An object without pixels that is of the same class as an
    image is a damaged image, and stays; others (raw data, say) have no place among slices. A
    minority that calls itself a localizer, or a picture of a screen, is left out, and `left_out`
    says so.
    """
    classes = {header.sop_class_uid for header in headers if header.is_image}
    images = [
        header
        for header in headers
        if header.is_image or header.pixel_offset is not None or header.sop_class_uid in classes
    ]
    scouts = [header for header in images if calls_itself_localizer(header)]
    screens = [header for header in images if header.sop_class_uid.startswith(_SECONDARY_CAPTURE)]
    odd = {header.sop_instance_uid for header in (*scouts, *screens)}
    if not 2 * len(odd) < len(images):
        return SeriesImages(tuple(images))
    left_out = [
        f"{_numbered(ones)} of the series {'is' if len(ones) == 1 else 'are'} {what} and "
        f"{'was' if len(ones) == 1 else 'were'} left out."
        for ones, what in ((scouts, "no slice but a localizer"), (screens, "a picture of a screen"))
        if ones
    ]
    kept = tuple(header for header in images if header.sop_instance_uid not in odd)
    return SeriesImages(kept, " ".join(left_out))


def calls_itself_localizer(header: InstanceHeader) -> bool:
    """Whether ImageType value 3 says LOCALIZER (PS3.3 C.7.6.1.1.2)."""
    value = header.attributes.get("ImageType")
    kinds = value if isinstance(value, list) else [value or ""]
    return codes_of(kinds[2:3]) == ("LOCALIZER",)


def image_number(header: InstanceHeader) -> str:
    """InstanceNumber, by which people find an image; its UID where there is none.

    Of a frame its number within its instance.
    """
    frame = frame_of(header)
    if frame is not None:
        return str(frame)
    return header.text("InstanceNumber") or header.sop_instance_uid


def odd_ones(headers: Sequence[InstanceHeader], kinds: Sequence[Hashable]) -> str:
    """Names the images that differ from most others: ": image 900 differs from the others".

    Args:
        kinds: of each image, what has to be the same.

    Returns:
        Words that continue a sentence; empty where no kind is that of most images.
    """
    (usual, count), *_ = Counter(kinds).most_common()
    odd = [header for header, kind in zip(headers, kinds, strict=True) if kind != usual]
    if not odd or 2 * count <= len(headers):
        return ""
    verb = "differs" if len(odd) == 1 else "differ"
    return f": {_numbered(odd).lower()} {verb} from the others"


def which(
    headers: Sequence[InstanceHeader], are: Sequence[bool], one: str = "", several: str = ""
) -> str:
    """Names the images of which something is true, where it is not of all: ": images 3 and 4".

    Args:
        are: for each image, whether it is one.
        one, several: what follows the numbers of one, or of several.

    Returns:
        Words that continue a sentence; empty where it is true of all images, or of none.
    """
    ones = [header for header, is_one in zip(headers, are, strict=True) if is_one]
    if len(ones) in (0, len(headers)):
        return ""
    return f": {_numbered(ones).lower()}{one if len(ones) == 1 else several}"


def numbers_of(headers: Sequence[InstanceHeader]) -> str:
    """The numbers of several images, in words: "3, 4 and 5", "3, 4, 5, 6, 7 and 12 more"."""
    return _numbered(headers).partition(" ")[2]


def _numbered(headers: Sequence[InstanceHeader]) -> str:
    numbers = sorted(map(image_number, headers), key=lambda number: (len(number), number))
    if len(numbers) == 1:
        return f"Image {numbers[0]}"
    more = len(numbers) - _MOST_NUMBERS
    if more > 0:
        return f"Images {', '.join(numbers[:_MOST_NUMBERS])} and {more} more"
    return f"Images {', '.join(numbers[:-1])} and {numbers[-1]}"
