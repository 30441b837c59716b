"""A head as one enhanced object goes the whole way, and its results name its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from tests.builders.enhanced import enhanced_of
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import SEG, SR, StackUnderTest


def test_enhanced_head_is_segmented_frame_by_frame_as_its_classic_twin(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    classic, enhanced = tmp_path / "classic", tmp_path / "enhanced"
    write_head(classic, "classic twin")
    enhanced.mkdir()
    files = write_head(tmp_path / "frames", "enhanced twin")
    file = enhanced_of(files[::-1], enhanced / "head.dcm")
    segmentations: list[pydicom.Dataset] = []
    for folder, name in ((classic, "classic twin"), (enhanced, "enhanced twin")):
        stack.send(folder)
        done = stack.wait_until_done(study_uid(name))
        assert [fate["fate"] for fate in done["fate"]] == ["processed"]
        assert len(stack.in_pacs(study_uid(name), SR)) == 1
        (seg,) = stack.in_pacs(study_uid(name), SEG)
        segmentations.append(seg)
    of_classic, of_enhanced = segmentations
    np.testing.assert_array_equal(of_enhanced.pixel_array, of_classic.pixel_array)
    source = pydicom.dcmread(file)
    for frame in of_enhanced.PerFrameFunctionalGroupsSequence:
        item = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
        named = source.PerFrameFunctionalGroupsSequence[item.ReferencedFrameNumber - 1]
        assert (
            named.PlanePositionSequence[0].ImagePositionPatient
            == frame.PlanePositionSequence[0].ImagePositionPatient
        )
