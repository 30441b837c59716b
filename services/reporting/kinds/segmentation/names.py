"""What segmentations are called; a report names them by this, too."""

from __future__ import annotations

from services.common.identity import result_uid
from services.reporting.objects.forms import Form
from services.reporting.objects.naming import ObjectNames

# Frames without any voxel are written too. Some older viewers pair frames by their index.
KEEP_EMPTY_FRAMES = "keep_empty_frames"

SEG = ObjectNames(
    kind="SEG",
    called="segmentation",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
    modality="SEG",
    series_place=0,
    options={KEEP_EMPTY_FRAMES: 2},
)


def dimension_organization_uid(job_uid: str, form: Form) -> str:
    """Dimension Organization UID of a SEG."""
    return result_uid(job_uid, SEG.kind, f"dimensions:{SEG.form_name(form)}")
