"""The stack on one machine: which processes it has, and the supervisor that keeps them running."""

from services.cli.stack.processes import ManagedProcess, stack_processes
from services.cli.stack.state import StackState, read_state, running_state
from services.cli.stack.supervisor import Supervisor

__all__ = [
    "ManagedProcess",
    "StackState",
    "Supervisor",
    "read_state",
    "running_state",
    "stack_processes",
]
