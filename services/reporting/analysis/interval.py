"""How sure a volume is: between which of the volumes lie that members of an ensemble find alone."""

from __future__ import annotations

from dataclasses import replace

from services.reporting.analysis.measure import MeasuredValue, volume
from services.reporting.job import Job, ModelNumbers

_MM3_PER_ML = 1000.0


def with_intervals(job: Job, values: tuple[MeasuredValue, ...]) -> tuple[MeasuredValue, ...]:
    """The measurements, each with its interval where the manifest names an output that has it."""
    return tuple(_with_interval(job, value) for value in values)


def interval_of(
    numbers: ModelNumbers, segment: int, value: float | None, unit: str
) -> tuple[float, float] | None:
    """The members' interval in `unit`, scaled to the reported volume; None where none is known.

    The model counts on the grid that it was sent. Where slices lie unevenly or were tilted, that
    is not the grid of the slices: the interval is scaled by what the whole measures on both. The
    volume that is reported always lies in it, also where no member alone finds so much, or so
    little.

    Args:
        numbers: what `measure-uncertainty` made.
        segment: its number in the manifest.
        value: the reported volume; None where the segment was not found.
        unit: UCUM, of the reported volume.
    """
    of_segment = {name: each.get(segment) for name, each in numbers.of_segments.items()}
    ends = (of_segment.get("volume_low_ml"), of_segment.get("volume_high_ml"))
    if ends[0] is None or ends[1] is None or (value is None and ends[1] == 0):
        return None
    whole = volume((of_segment.get("volume_ml") or 0.0) * _MM3_PER_ML, 1.0, unit)
    scale = value / whole if value is not None and whole > 0 else 1.0
    low, high = (volume(end * _MM3_PER_ML * scale, 1.0, unit) for end in ends if end is not None)
    return (low, high) if value is None else (min(low, value), max(high, value))


def interval_told(job: Job, value: MeasuredValue) -> str:
    """A sentence about a volume's interval, for viewers that show no properties of a number."""
    output = job.manifest.measurements[value.wanted].interval
    if value.value is None or value.low is None or value.high is None or output is None:
        return ""
    members = job.numbers[output].whole.get("members", 0)
    return (
        f"{value.segment_label} {value.value:.1f} {value.unit}; the {members:.0f} networks, each "
        f"alone, measure {value.low:.1f} to {value.high:.1f} {value.unit} "
        f"({job.manifest.interval_words(output)} of their volumes)."
    )


def _with_interval(job: Job, value: MeasuredValue) -> MeasuredValue:
    output = job.manifest.measurements[value.wanted].interval
    numbers = None if output is None else job.numbers.get(output)
    if numbers is None:
        return value
    found = interval_of(numbers, value.segment_number, value.value, value.unit)
    return value if found is None else replace(value, low=found[0], high=found[1])
