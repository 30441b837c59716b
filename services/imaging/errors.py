"""The root of imaging's exceptions.

ImagingError(AxialError): a caller broke a contract of this room (an array of the wrong shape, a
series without headers). What received images can legitimately be is a `Refusal`, a value.
"""

from __future__ import annotations

from services.common.errors import AxialError


class ImagingError(AxialError):
    """The caller asked for something that has no meaning for images."""
