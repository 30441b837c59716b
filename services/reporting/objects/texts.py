"""Times and texts of our objects, in the forms of PS3.5 6.2."""

from __future__ import annotations

import datetime as dt
import unicodedata

from pydicom.dataset import Dataset

# Letters that Unicode does not take apart into a plain letter and an accent.
_WHOLE_LETTERS = str.maketrans(
    {"ß": "ss", "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "Ø": "O", "ø": "o", "Ł": "L", "ł": "l"}
)


def ascii_text(text: str, longest: int) -> str:
    """`text` in ASCII and at most `longest` characters; accents are dropped."""
    plain = (
        unicodedata.normalize("NFKD", text.translate(_WHOLE_LETTERS))
        .encode("ascii", "ignore")
        .decode("ascii")
    )
    return " ".join(plain.replace("\\", "/").split())[:longest].rstrip()


def local_time(source: Dataset, moment: dt.datetime) -> dt.datetime:
    """`moment` in the source's time zone where the source names one (0008,0201), else unchanged.

    One offset holds for all times of an object, the copied ones included.
    """
    offset = str(source.get("TimezoneOffsetFromUTC") or "").strip()
    try:
        return moment.astimezone(dt.datetime.strptime(offset, "%z").tzinfo)
    except ValueError:
        return moment


def offset_from_utc(moment: dt.datetime) -> str:
    """TimezoneOffsetFromUTC of a timezone-aware time: +hhmm."""
    return moment.strftime("%z")[:5]


def date_text(moment: dt.datetime) -> str:
    """DA."""
    return moment.strftime("%Y%m%d")


def time_text(moment: dt.datetime) -> str:
    """TM with microseconds."""
    return moment.strftime("%H%M%S.%f")


def datetime_text(moment: dt.datetime) -> str:
    """DT with the offset."""
    return f"{date_text(moment)}{time_text(moment)}{offset_from_utc(moment)}"
