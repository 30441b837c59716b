"""Step `normalise`: see `models.manifest.plan.normalise`."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.normalise import (
    Factor,
    MinMax,
    Normalise,
    Quantiles,
    QuantileStandardise,
    Truncate,
    Window,
    ZScore,
)
from models.runtime.components import fill_holes
from models.runtime.images import Channel, Distinct, Held, Image, Picked, Scaled
from models.runtime.intensity import Window as Ends
from models.runtime.intensity import is_nonzero, measured, quantiles, to_window
from models.runtime.noise import standard_noise
from models.runtime.record import PipelineRefusal
from models.runtime.resample import Axes, gather
from models.runtime.running import Refused, Run

__all__ = ["normalise"]

F32 = NDArray[np.float32]


def normalise(step: Normalise, run: Run) -> Image:
    """Scale each channel by itself."""
    image, by = run.image(step.in_), step.by
    if isinstance(by, QuantileStandardise):
        return Image(image.grid, _standardised(step, by, run))
    if isinstance(by, ZScore) and by.over == "filled":
        return _in_the_filled(image, by, run)
    made: list[Channel] = []
    for place, channel in enumerate(image.channels):
        whole = _whole(channel, image, run).values
        _scale(whole, by, place, run)
        made.append(Held(whole))
    return Image(image.grid, tuple(made))


def _in_the_filled(image: Image, by: ZScore, run: Run) -> Image:
    """Standardise what any channel holds and encloses; outside it all is zero."""
    wholes = [_whole(channel, image, run).values for channel in image.channels]
    inside = np.zeros(image.grid.shape, np.bool_)
    for whole in wholes:
        inside |= is_nonzero(whole)
    fill_holes(inside.view(np.uint8))
    for whole in wholes:
        counted = inside & np.isfinite(whole)
        _standardise(whole, counted, counted, by)
        whole[~counted] = 0.0
    return Image(image.grid, tuple(Held(whole) for whole in wholes))


def _standardised(step: Normalise, by: QuantileStandardise, run: Run) -> tuple[Channel, ...]:
    image = run.image(step.in_)
    made: list[Channel] = []
    for place, channel in enumerate(image.channels):
        distinct = _whole(channel, image, run) if by.of == step.in_ else channel.distinct(run.crew)
        ends = _ends(step, by, place, distinct, run)
        moments = to_window(distinct.values, ends, distinct.counts, run.crew)
        made.append(Scaled(distinct.values, moments.scaling_to(by.mean, by.std), distinct.inverse))
    return tuple(made)


def _ends(
    step: Normalise, by: QuantileStandardise, place: int, distinct: Distinct, run: Run
) -> Ends:
    """Return the quantiles of a channel of `of`, which several steps may ask for."""
    fractions = (by.low, by.high)
    key = (by.of, place, fractions)
    if key not in run.quantiles:
        if by.of == step.in_:
            values = distinct.values
        else:
            shown = run.image(by.of)
            values = _whole(shown.channels[place], shown, run).values
        run.quantiles[key] = quantiles(measured(values), fractions, run.crew)
    _require_contrast(run.quantiles[key])
    return run.quantiles[key]


def _whole(channel: Channel, image: Image, run: Run) -> Distinct:
    """Return every voxel of a channel, repeated ones too: each counts once."""
    if isinstance(channel, Picked):
        values = gather(channel.source, channel.turn, channel.places, run.crew)
    else:
        values = np.empty(image.grid.shape, np.float32)
        channel.write(values, run.crew)
    once = cast(Axes, tuple(np.ones(side, np.intp) for side in values.shape))
    return Distinct(values, once, None)


def _scale(
    values: F32,
    by: Window | ZScore | MinMax | Factor | Truncate | Quantiles,
    place: int,
    run: Run,
) -> None:
    """Scale a channel [a0, a1, a2] in place; what was not measured becomes the lowest value."""
    if isinstance(by, Truncate):
        np.trunc(values, out=values)
        return
    if isinstance(by, Factor):
        np.nan_to_num(values, copy=False)
        np.multiply(values, np.float32(by.factor), out=values)
        return
    if isinstance(by, Window):
        _window(values, by, run)
        return
    if isinstance(by, ZScore):
        _zscore(values, by, place)
        return
    known = measured(values)
    if isinstance(by, Quantiles):
        ends = quantiles(known, (by.low, by.high), run.crew)
    else:
        low, high = (known.min(), known.max()) if known.size else (np.float32(0), np.float32(0))
        ends = Ends(np.float32(low), np.float32(high))
    _require_contrast(ends)
    np.nan_to_num(values, copy=False, nan=float(ends.low))
    np.clip(values, ends.low, ends.high, out=values)
    np.subtract(values, ends.low, out=values)
    np.multiply(values, np.float32(1) / (ends.high - ends.low), out=values)


def _window(values: F32, by: Window, run: Run) -> None:
    low, high = np.float32(by.low), np.float32(by.high)
    if by.to is not None:
        gain = np.float32((by.to[1] - by.to[0]) / (by.high - by.low))
        offset = np.float32(by.to[0] - by.low * float(gain))
    else:
        gain = np.float32(1.0 / max(by.std or 0.0, 1e-8))
        offset = np.float32(-(by.mean or 0.0) * float(gain))

    def work(first: int, end: int) -> None:
        part = values[first:end]
        np.nan_to_num(part, copy=False, nan=float(low), posinf=float(high), neginf=float(low))
        np.clip(part, low, high, out=part)
        np.multiply(part, gain, out=part)
        np.add(part, offset, out=part)

    run.crew.share(len(values), work)


def _zscore(values: F32, by: ZScore, place: int) -> None:
    unmeasured = ~np.isfinite(values)
    empty = unmeasured | (values == 0)
    counted = ~unmeasured
    if by.over == "nonzero":
        counted &= values != 0
    elif by.over == "positive":
        counted &= values > 0
    changed = counted if by.over == "nonzero" else ~unmeasured
    _standardise(values, counted, changed, by)
    values[unmeasured] = values[changed].min()
    if by.zeros is not None:
        values[empty] = standard_noise(values.shape, place)[empty]


def _standardise(
    values: F32, counted: NDArray[np.bool_], changed: NDArray[np.bool_], by: ZScore
) -> None:
    """Standardise, in place, the changed values by the moments of the counted ones."""
    known = values[counted].astype(np.float64)
    spread = float(known.std(ddof=1 if by.unbiased else 0)) if known.size > 1 else 0.0
    if spread == 0.0:
        raise Refused(PipelineRefusal("blank_image", {"low": "0", "high": "0"}))
    mean = float(known.mean())
    values[changed] = ((values[changed] - mean) / max(spread, 1e-8)).astype(np.float32)


def _require_contrast(ends: Ends) -> None:
    if ends.is_empty:
        raise Refused(
            PipelineRefusal("blank_image", {"low": f"{ends.low:g}", "high": f"{ends.high:g}"})
        )
