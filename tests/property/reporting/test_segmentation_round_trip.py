"""Whatever the labels, the size and the orientation: the SEG holds exactly the labels.

SEG and SR are, byte for byte, what highdicom and pydicom write when they are given every plane.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from services.reporting.kinds.report.checking import check_report
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.kinds.segmentation.checking import check_segmentation
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.forms import Form
from tests.builders.by_highdicom import report_by_highdicom, segmentation_by_highdicom
from tests.builders.reporting import ORIENTATIONS, analysis_of, series_in, three_segments

_SHAPES = st.tuples(st.integers(2, 6), st.integers(1, 9), st.integers(1, 9))
_FORMS = st.builds(Form, st.frozensets(st.sampled_from(["keep_empty_frames", "key_slice"])))


@settings(max_examples=60)
@given(
    data=st.data(),
    shape=_SHAPES,
    orientation=st.sampled_from([*ORIENTATIONS, "oblique"]),
    form=_FORMS,
)
def test_any_labels_come_back_as_they_went_in(
    data: st.DataObject, shape: tuple[int, int, int], orientation: str, form: Form
) -> None:
    labels = data.draw(
        arrays(np.uint8, shape, elements=st.integers(0, 3), fill=st.sampled_from([0, 0, 1]))
    )
    with tempfile.TemporaryDirectory() as folder:
        files = series_in(Path(folder), orientation, shape)
        analysis = analysis_of(files, labels, three_segments())
        report = Path(folder) / "sr.dcm"
        report.write_bytes(encode_report(analysis, form, 2, Context()))
        assert report.read_bytes() == report_by_highdicom(analysis, form, 2, Context())
        assert check_report(report, analysis, form) is None
        if analysis.found:
            segmentation = Path(folder) / "seg.dcm"
            segmentation.write_bytes(encode_segmentation(analysis, form, 1))
            assert segmentation.read_bytes() == segmentation_by_highdicom(analysis, form, 1)
            assert check_segmentation(segmentation, analysis, form) is None
