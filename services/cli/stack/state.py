"""Where a running stack is: a small file beside its data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from services.common.settings import Settings


@dataclass(frozen=True, slots=True)
class StackState:
    """A running stack.

    Attributes:
        supervisor_pid: the process to signal.
        started_at: the supervisor's start, in seconds since the epoch: tells the supervisor from a
            later process that was given the same number.
        pids: process name -> pid.
        ready: every process answered.
    """

    supervisor_pid: int
    started_at: float
    pids: dict[str, int]
    ready: bool


def state_file(settings: Settings) -> Path:
    """The file in which the stack's state is kept."""
    return settings.data_dir / "run" / "stack.json"


def write_state(settings: Settings, state: StackState) -> None:
    """Replaces the state as a whole."""
    file = state_file(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
    temporary.replace(file)


def read_state(settings: Settings) -> StackState | None:
    """The last written state; None when there is none."""
    try:
        return StackState(**json.loads(state_file(settings).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def running_state(settings: Settings) -> StackState | None:
    """The state of a stack that runs; None when none does."""
    state = read_state(settings)
    if state is None or not psutil.pid_exists(state.supervisor_pid):
        return None
    try:
        process = psutil.Process(state.supervisor_pid)
        same = abs(process.create_time() - state.started_at) < 1.0
    except psutil.Error:
        return None
    return state if same and process.status() != psutil.STATUS_ZOMBIE else None
