"""What reports are called."""

from __future__ import annotations

from services.reporting.kinds.segmentation.names import KEEP_EMPTY_FRAMES
from services.reporting.objects.naming import ObjectNames

# Groups hold a 2D region of the key slice instead of a reference to the segment, for viewers that
# cannot open groups without a region.
KEY_SLICE = "key_slice"

SR = ObjectNames(
    kind="SR",
    called="measurements",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
    modality="SR",
    series_place=1,
    # A report names the segmentation of its own form, so that it has all of that one's options.
    options={KEEP_EMPTY_FRAMES: 2, KEY_SLICE: 4},
    names_predecessor=True,
)
