"""The scan that builds of an imported model are compared on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from models.building.reference_volumes import read_nifti
from models.importing.assembling import Pinned
from models.importing.publishing import pinned

__all__ = ["put_case"]

_NAME: Final = "case.nii"


def put_case(case: Path | None, made: Path) -> tuple[Pinned | None, int]:
    """Put a scan beside the manifest; returns it, pinned, and how many voxels it has.

    Without one builds are compared on a made volume, which needs no file.

    Args:
        case: a NIfTI file.
        made: the model's folder.

    Raises:
        FetchError: the file holds no volume.
    """
    if case is None:
        return None, 0
    voxels = int(read_nifti(case).pixels.size)
    file = made / (_NAME + (".gz" if case.name.endswith(".gz") else ""))
    shutil.copyfile(case, file)
    return pinned(made, file), voxels
