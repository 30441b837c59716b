"""What every benchmark gives: rows of one form, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

_VERSIONS = ("axial", "numpy", "openvino", "torch", "deepbet", "highdicom", "pynetdicom", "dbos")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        name: begins with its room: whole-, receive-, models-, results-, cluster-, dicomweb-.
        ours: our value.
        peer: the peer's value in the same run; None where the target is a budget.
        ratio: what the target is about: a ratio to the peer, or our value against a budget.
        better: whether a higher or a lower ratio is better.
    """

    name: str
    ours: float
    peer: float | None
    unit: str
    ratio: float
    target: float
    better: Literal["higher", "lower"]

    @property
    def reached(self) -> bool:
        """Whether the target is reached."""
        if self.better == "higher":
            return self.ratio >= self.target
        return self.ratio <= self.target

    def as_json(self) -> dict[str, Any]:
        """The form that is written."""
        return asdict(self)


def budget(name: str, ours: float, unit: str, target: float) -> Row:
    """A figure that must stay below a budget."""
    return Row(name, ours, None, unit, ours, target, "lower")


def machine() -> dict[str, str]:
    """The machine and the versions that a result depends on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    found = {
        "cpu": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
    }
    return {**found, **{name: version(name) for name in _VERSIONS}}
