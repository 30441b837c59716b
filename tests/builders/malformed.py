"""Malformed values that a test lets a sender write on purpose.

pydicom warns of them, where a test writes them and where the product reads them. Each test says
for itself that it expects these warnings: anywhere else a warning is a failure.
"""

from __future__ import annotations

import pytest

__all__ = ["malformed_values"]

malformed_values = pytest.mark.filterwarnings(
    "ignore:Invalid value for VR:UserWarning",
    "ignore:The value length .* exceeds the maximum length:UserWarning",
    "ignore:The value for the data element .* exceeds the size of 64 kByte:UserWarning",
    "ignore:Failed to encode value with encodings:UserWarning",
    "ignore:Unknown encoding .* using default encoding:UserWarning",
)
