"""The root of the listener's exceptions.

ListenerError(AxialError): the front door cannot be opened or what it keeps is not as it must be.
What peers can legitimately send is answered with a status or a rejection, both values.
"""

from __future__ import annotations

from services.common.errors import AxialError


class ListenerError(AxialError):
    """The listener cannot do its work."""
