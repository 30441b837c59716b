"""What a receiver leaves unanswered is sent once more; what it refuses is not."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt

from services.dimse.files import find_instances
from services.dimse.line import Call
from services.dimse.sending import SendReport, send_instances
from tests.builders.series import small_volume, sound_series

_UNANSWERED = "the receiver did not answer within 1 s"


class Forgetful:
    """Does not answer the instances of these numbers, counted over all associations."""

    def __init__(self, *unanswered: int) -> None:
        self.stored: list[str] = []
        self._unanswered = unanswered
        self._asked = 0
        self._over = threading.Event()

    def store(self, event: Any) -> int:
        """The handler of a C-STORE."""
        self._asked += 1
        if self._asked in self._unanswered:
            self._over.wait(30)
        else:
            self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    @contextmanager
    def listening(self) -> Generator[int]:
        """Its port."""
        entity = AE(ae_title="FORGETFUL")
        entity.add_supported_context(MRImageStorage)
        server: Any = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)]
        )
        try:
            yield server.socket.getsockname()[1]
        finally:
            self._over.set()
            server.shutdown()


def _sent(folder: Path, port: int) -> SendReport:
    call = Call("127.0.0.1", port, "FORGETFUL", "SENDER", answer_timeout_s=1.0)
    return send_instances(find_instances(folder), call)


def test_the_rest_goes_over_another_association(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    peer = Forgetful(3)
    with peer.listening() as port:
        report = _sent(tmp_path / "dicom", port)
    assert (report.sent, report.failed) == (len(files), ())
    assert len(set(peer.stored)) == len(files)


def test_a_file_that_becomes_shorter_costs_no_other_its_try(tmp_path: Path) -> None:
    """What of it had been sent ends the association; the others go over the next one."""
    sound_series(tmp_path / "dicom", small_volume((5, 1100, 1000)))  # more than one piece each
    instances = find_instances(tmp_path / "dicom")
    with instances[1].file.open("r+b") as file:
        file.truncate(instances[1].data_set_at + instances[1].data_bytes - 2)
    peer = Forgetful()
    with peer.listening() as port:
        call = Call("127.0.0.1", port, "FORGETFUL", "SENDER", answer_timeout_s=10.0)
        report = send_instances(instances, call)
    (failed,) = report.failed
    assert failed == (instances[1].file, "its data set has become shorter while it was sent")
    assert peer.stored == [i.sop_instance_uid for n, i in enumerate(instances) if n != 1]


def test_an_instance_that_is_never_answered_stops_no_other(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    peer = Forgetful(3, 4)
    with peer.listening() as port:
        report = _sent(tmp_path / "dicom", port)
    assert report.sent == len(files) - 1
    assert report.failed == ((sorted(files)[2], _UNANSWERED),)


def test_who_never_answers_is_not_asked_for_ever(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    peer = Forgetful(*range(3, 100))
    with peer.listening() as port:
        report = _sent(tmp_path / "dicom", port)
    assert report.sent == 2
    assert report.failed == tuple((file, _UNANSWERED) for file in sorted(files)[2:])
