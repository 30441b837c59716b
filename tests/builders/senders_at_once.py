"""Many associations at once, from several processes; run as a module it is one of them.

``python -m tests.builders.senders_at_once PORT FILE FIRST ASSOCIATIONS INSTANCES`` sends copies of
a file under UIDs of their own and prints what the longest wait was and what was not stored.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from services.dimse.errors import AssociationError
from services.dimse.files import FoundInstance, look_at
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import Association, StoreRequest

_CALLED = "AXIAL"
_WITHIN_S = 900.0


@dataclass(frozen=True)
class SentAtOnce:
    """What became of it.

    Attributes:
        longest_s: from the last byte of an instance to its answer.
        stored: instances that were answered with success; problems: what else happened.
    """

    longest_s: float
    stored: int
    problems: tuple[str, ...]


def copy_uid(instance: FoundInstance, association: int, number: int) -> str:
    """The UID of a copy: as long as the file's own."""
    return f"{instance.sop_instance_uid[:-7]}{association:04d}{number:03d}"


def send_at_once(
    port: int, file: Path, associations: int, instances: int, processes: int = 4
) -> SentAtOnce:
    """Sends `instances` copies of a file over each of so many associations, all at once."""
    each = associations // processes
    command = [sys.executable, "-m", "tests.builders.senders_at_once", str(port), str(file)]
    running = [
        subprocess.Popen(
            [*command, str(number * each), str(each), str(instances)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    try:
        for process in running:  # all of its associations are accepted
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [json.loads(process.communicate(timeout=_WITHIN_S)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return SentAtOnce(
        max(one["longest_s"] for one in said),
        sum(one["stored"] for one in said),
        tuple(problem for one in said for problem in one["problems"]),
    )


def _main(port: int, file: Path, first: int, associations: int, instances: int) -> None:
    instance = look_at(file)
    with instance.open() as opened:
        data = opened.read()
    own = instance.sop_instance_uid.encode()
    assert data.count(own) == 1
    ready = threading.Barrier(associations + 1)
    go = threading.Event()
    lock = threading.Lock()
    longest, stored, problems = [0.0], [0], list[str]()

    def serve(association_number: int) -> None:
        call = Call("127.0.0.1", port, _CALLED, f"S{association_number}", connect_timeout_s=60.0)
        context = ProposedContext(1, instance.sop_class_uid, (instance.transfer_syntax_uid,))
        try:
            with Association(call, [context]) as association:
                ready.wait(120)
                go.wait(120)
                for number in range(instances):
                    uid = copy_uid(instance, association_number, number)
                    stream = io.BytesIO(data.replace(own, uid.encode()))
                    request = StoreRequest(1, instance.sop_class_uid, uid, stream, len(data))
                    sent_at = [0.0]
                    response = association.store(
                        request, meanwhile=lambda at=sent_at: at.__setitem__(0, time.monotonic())
                    )
                    wait_s = time.monotonic() - sent_at[0]
                    with lock:
                        longest[0] = max(longest[0], wait_s)
                        if response.status == 0:
                            stored[0] += 1
                        else:
                            problems.append(f"{response.status} {response.comment}")
        except AssociationError as error:
            with lock:
                problems.append(str(error))
            ready.abort()

    threads = [
        threading.Thread(target=serve, args=(first + number,)) for number in range(associations)
    ]
    for thread in threads:
        thread.start()
    try:
        ready.wait(120)
    except threading.BrokenBarrierError:
        problems.append("not all associations were accepted")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    go.set()
    for thread in threads:
        thread.join()
    said = {"longest_s": longest[0], "stored": stored[0], "problems": problems[:20]}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    _port, _file, *_numbers = sys.argv[1:]
    _main(int(_port), Path(_file), *map(int, _numbers))
