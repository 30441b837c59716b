"""No answer is lost and none waits, however busy the machine is."""

from __future__ import annotations

import os
from pathlib import Path

from services.dimse.files import find_instances
from tests.builders.many_senders import busy_processes, forgetting_storescp, longest_wait
from tests.builders.senders import needs_dcmtk
from tests.builders.series import small_volume, sound_series

# `make soak` sends 200 times.
ASSOCIATIONS = int(os.environ.get("SEND_ASSOCIATIONS", "40"))
INSTANCES = 176


@needs_dcmtk
def test_no_answer_waits_for_a_second_beside_busy_processes(tmp_path: Path) -> None:
    sound_series(tmp_path / "dicom", small_volume((INSTANCES, 64, 64)))
    instances = find_instances(tmp_path / "dicom")
    assert len(instances) == INSTANCES
    with forgetting_storescp() as port, busy_processes(2):
        assert longest_wait(port, instances, ASSOCIATIONS) < 1.0
