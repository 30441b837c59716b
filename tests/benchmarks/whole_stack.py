"""The whole stack on a 1 mm head: time beside the networks, memory, idle cost, start."""

from __future__ import annotations

import datetime as dt
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from services.cli.stack import running_state
from services.common.settings import ListenerSettings
from tests.benchmarks.rows import Row, budget
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import QUIET_PERIOD_S, StackUnderTest, running_stack

STUDIES = 3
IDLE_S = 60.0
# What the processes do of their own when they have just begun: warming up, the first rounds.
BEGINNING_S = 10.0
SAMPLE_S = 0.05
_NOT_OURS = "stand-in-pacs"


def rows() -> list[Row]:
    """Runs the stack and measures; prints the split by stage."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        with running_stack(Path(folder)) as stack:
            start_s = time.monotonic() - begun
            idle_gb, idle_percent = _idle(stack)
            with _PeakMemory(stack) as memory:
                studies = [_one_study(stack, Path(folder), n) for n in range(STUDIES)]
    _print_split(studies[-1])
    rest = statistics.median(study["rest_s"] for study in studies)
    return [
        budget("whole-beside-the-networks", rest, "s", 2.0),
        # Work of the database and the queue; a queue that is polled every second would show here.
        budget("whole-longest-gap-between-stages", max(s["wait_s"] for s in studies), "s", 0.2),
        budget("whole-peak-memory", memory.peak_gb, "GB", 3.0),
        budget("whole-idle-memory", idle_gb, "GB", 1.0),
        budget("whole-idle-cpu", idle_percent, "% of a core", 2.0),
        budget("whole-start-warm", start_s, "s", 15.0),
    ]


def _one_study(stack: StackUnderTest, folder: Path, number: int) -> dict[str, Any]:
    """Sends one head; `rest_s` is last response to stored SR, less networks and quiet period."""
    name = f"bench {number}"
    write_head(folder / name, name, step=1)
    report = stack.send(folder / name)
    # Ask rarely: the question itself costs the two cores time.
    uid = study_uid(name)
    while (study := stack.study(uid)) is None or study["state"] != "done":
        time.sleep(0.5)
    job = study["jobs"][0]
    stored = max(_seconds(item["delivered_at"]) for item in job["deliveries"])
    networks = sum(s["seconds"] for s in job["stages"] if s["stage"].startswith("infer.network"))
    total = stored - report.last_response_at
    return {
        "study": study,
        "total_s": total,
        "networks_s": networks,
        "rest_s": total - networks - _configured_wait(study),
        "stored": stored,
        "wait_s": _longest_wait(study),
    }


def _configured_wait(study: dict[str, Any]) -> float:
    """How long the settings have a finished series wait: settled and wanted, or quiet."""
    wanted = study["revisions"][0]["trigger"] == "wanted"
    return ListenerSettings().settle_period_s if wanted else QUIET_PERIOD_S


def _longest_wait(study: dict[str, Any]) -> float:
    """The longest time between the end of a stage and the beginning of the next."""
    stages = {stage["stage"]: stage for stage in study["jobs"][0]["stages"]}
    ends = [_seconds(study["revisions"][0]["frozen_at"])]
    waits: list[float] = []
    for name in ("select", "load", "infer", "report", "deliver"):
        begun = _seconds(stages[name]["started_at"])
        inside = stages["infer.labels"] if name == "report" else None
        ends_at = ends[-1] if inside is None else _end(inside)
        waits.append(begun - ends_at)
        ends.append(_end(stages[name]))
    return max(waits)


def _end(stage: dict[str, Any]) -> float:
    return _seconds(stage["started_at"]) + stage["seconds"]


def _print_split(measured: dict[str, Any]) -> None:
    study = measured["study"]
    job = study["jobs"][0]
    lines = [(s["stage"], s["seconds"]) for s in job["stages"]]
    frozen = _seconds(study["revisions"][0]["frozen_at"])
    first = min(_seconds(s["started_at"]) for s in job["stages"] if s["stage"] == "select")
    lines.insert(0, ("frozen to first step", first - frozen))
    lines.append(("job ended to SR stored", measured["stored"] - _seconds(job["ended_at"])))
    print(f"\nSplit of {measured['total_s']:.2f} s (networks {measured['networks_s']:.2f} s,")
    print(f"settled or quiet {_configured_wait(study)} s):")
    for stage, seconds in lines:
        print(f"  {stage:<32} {seconds:7.3f} s")


def _idle(stack: StackUnderTest) -> tuple[float, float]:
    """Memory in GB and use of one core in percent while nothing happens."""
    time.sleep(BEGINNING_S)
    processes = _processes(stack)
    before = sum(_cpu_s(process) for process in processes)
    begun = time.monotonic()
    time.sleep(IDLE_S)
    used = sum(_cpu_s(process) for process in processes) - before
    return _memory_gb(processes), 100.0 * used / (time.monotonic() - begun)


class _PeakMemory:
    """Samples the stack's proportional set size while the context is open."""

    def __init__(self, stack: StackUnderTest) -> None:
        self._stack = stack
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_gb = 0.0

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        processes = _processes(self._stack)
        while not self._stop.wait(SAMPLE_S):
            self.peak_gb = max(self.peak_gb, _memory_gb(processes))


def _processes(stack: StackUnderTest) -> list[psutil.Process]:
    state = running_state(stack.settings)
    assert state is not None
    own = [state.supervisor_pid, *(p for n, p in state.pids.items() if n != _NOT_OURS)]
    found = {process.pid: process for pid in own for process in [psutil.Process(pid)]}
    for name, pid in state.pids.items():
        if name != _NOT_OURS:
            found.update({c.pid: c for c in psutil.Process(pid).children(recursive=True)})
    return list(found.values())


def _memory_gb(processes: list[psutil.Process]) -> float:
    """Proportional set size: shared pages are counted once over all processes."""
    total = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        total += next(int(s.split()[1]) for s in text.splitlines() if s.startswith("Pss:")) * 1024
    return total / 1e9


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _seconds(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
