"""Files over associations: the next is read in time, and none is lost when an association ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from services.dimse import pdu
from services.dimse.files import look_at
from services.dimse.line import Call
from services.dimse.sending import send_instances
from tests.builders.acceptor import Caller, acceptor
from tests.builders.peers import wait_until
from tests.builders.series import sound_series


def test_the_next_instance_is_read_while_the_answer_is_awaited(tmp_path: Path) -> None:
    first, second, *_ = sorted(sound_series(tmp_path / "dicom"))
    instances = [look_at(first), look_at(second)]

    def is_open(file: Path) -> bool:
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                if entry.readlink() == file:
                    return True
        return False

    def waits(caller: Caller) -> None:
        caller.accept()
        command, context_id, _ = caller.read_request()
        wait_until(lambda: is_open(second), 20, "the second file is open")
        caller.answer(command, context_id, 0x0000)
        assert caller.store_all() == [second.read_bytes()[instances[1].data_set_at :]]

    with acceptor(waits) as port:
        report = send_instances(instances, Call("127.0.0.1", port, "PACS", "AXIAL"))
    assert report.sent == 2


def test_what_was_read_ahead_goes_over_the_next_association_in_its_order(tmp_path: Path) -> None:
    instances = [look_at(file) for file in sorted(sound_series(tmp_path / "dicom"))]
    received: list[str] = []

    def breaks(caller: Caller) -> None:
        caller.accept()
        caller.read_request()
        caller.reset()

    def goes_on(caller: Caller) -> None:
        caller.accept()
        with suppress(AssertionError):
            while True:
                command, context_id, _ = caller.read_request()
                received.append(command.sop_instance_uid)
                caller.answer(command, context_id, 0x0000)
        caller.send(pdu.release_response())

    with acceptor(breaks, goes_on) as port:
        report = send_instances(instances, Call("127.0.0.1", port, "PACS", "AXIAL"))
    assert (report.sent, report.failed) == (len(instances), ())
    assert received == [instance.sop_instance_uid for instance in instances]
