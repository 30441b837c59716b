"""Train the two part-models of `nnunet_cases` and write what TotalSegmentator makes of a scan.

    python tests/parity/make_totalsegmentator_case.py

in an environment with nnunetv2 2.8.1 and TotalSegmentator 2.18.0, whose own functions turn,
resample and return; what lies between them is as in its nnUNet_predict_image.
"""

# Neither is among the project's own packages.
# pyright: reportMissingImports=false

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel
import numpy as np
import torch
from totalsegmentator.alignment import as_closest_canonical, undo_canonical
from totalsegmentator.resampling import change_spacing

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.builders.nnunet_folder import checkpoint_of, write_trained
from tests.parity.make_nnunet_cases import INTO, packed, predicted, scan, trained, versions
from tests.parity.nnunet_cases import PARTS

_STEP = 0.8


def main() -> None:
    """Write the case."""
    first = PARTS[0]
    (values,), segments, affine = scan(first)
    inside = (values > -500) & (segments == 0)
    drawn = (np.where(inside, 2, segments == 1), segments == 2)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        original = nibabel.Nifti1Image(values.T.astype(np.float64), affine)
        canonical = as_closest_canonical(original)
        spacing = [first.plans["configurations"]["3d_fullres"]["spacing"][0]] * 3
        resampled = change_spacing(canonical, spacing, order=1, dtype=np.int32)
        nifti = work / "s01_0000.nii.gz"
        nibabel.save(resampled, nifti)
        states: list[dict[str, torch.Tensor]] = []
        models: list[Path] = []
        for place, (case, labels) in enumerate(zip(PARTS, drawn, strict=True)):
            truth = nibabel.Nifti1Image(labels.T.astype(np.uint8), affine)
            truth = change_spacing(as_closest_canonical(truth), spacing, order=0, dtype=np.uint8)
            nibabel.save(truth, work / "labels.nii.gz")
            states.append(trained(case, [nifti], work / "labels.nii.gz", place))
            models.append(work / f"part-{place}")
            checkpoint = checkpoint_of(states[-1], case.configuration, 0, case.trainer, None)
            write_trained(models[-1], dict(case.plans), dict(case.dataset), [checkpoint])
        back = (canonical, original)
        found = _together(models, nifti, work, resampled, back)
        with patch.object(torch, "half", torch.float32):
            in_single = _together(models, nifti, work, resampled, back)
    print(np.bincount(found.ravel()), int((found != in_single).sum()))  # noqa: T201
    content: dict[str, Any] = packed(states)
    np.savez_compressed(
        INTO / "totalsegmentator-parts.npz",
        scan=values,
        affine_ras=affine,
        labels=found,
        labels_single=in_single,
        versions=versions("TotalSegmentator", "nnunetv2", "torch", "scipy", "numpy"),
        **content,
    )


def _together(
    models: list[Path], nifti: Path, work: Path, resampled: Any, back: tuple[Any, Any]
) -> np.ndarray:
    """Put the parts' labels together, a later one over an earlier, and return them [k, j, i]."""
    combined = np.zeros(resampled.shape, np.uint8)
    number = 0
    for case, model in zip(PARTS, models, strict=True):
        labels = predicted(model, [nifti], work, step=_STEP, mirror=False).T
        count = len(case.dataset["labels"])
        mapped = np.array([0, *range(number + 1, number + count)], np.uint8)[labels]
        np.copyto(combined, mapped, where=mapped != 0)
        number += count - 1
    canonical, original = back
    image = nibabel.Nifti1Image(combined, resampled.affine)
    image = change_spacing(
        image,
        1.0,
        canonical.shape,
        order=0,
        dtype=np.uint8,
        force_affine=canonical.affine,
    )
    return np.asarray(undo_canonical(image, original).dataobj).T.astype(np.uint8)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
