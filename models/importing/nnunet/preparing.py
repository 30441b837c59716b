"""nnU-Net's preprocessing, sliding window and export as the steps of a plan.

The order is that of its DefaultPreprocessor: axes, crop, normalisation, resampling. Logits return
to the cropped scan, are decided there, and what was cropped away is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.importing.errors import NotImportableError
from models.importing.nnunet.published import (
    DEFAULT_RESAMPLING,
    Configuration,
    Intensity,
    Plans,
)

__all__ = ["Window", "axes_of", "normalisation", "plan_steps", "sliding_window"]

Step = dict[str, Any]
_UNRESAMPLED: Final = "no_resampling_data_or_seg_to_shape"
_ORDERS: Final = {0: "nearest", 1: "linear", 3: "cubic"}
# The order of array axes that each reader of nnU-Net gives: the file's own, slices first, or turned
# to right, anterior, superior and then slices first.
_AS_STORED: Final = "kji"
_READERS: Final = {
    "SimpleITKIO": _AS_STORED,
    "NibabelIO": _AS_STORED,
    "NibabelIOWithReorient": "SAR",
    "SimpleITKIOWithReorient": "SAR",
}


@dataclass(frozen=True, slots=True)
class Window:
    """How the sliding window goes.

    Attributes:
        step: from one tile to the next, as a share of the tile.
        mirror: array axes of the network's own patch along which it is shown mirrored.
    """

    step: float
    mirror: tuple[int, ...]


def axes_of(plans: Plans, said: str) -> str:
    """Return the axes of the array that the network sees, as `orient` has them.

    Args:
        plans: name the reader, and how its axes are exchanged.
        said: the axes that the training files have, by a person; empty: the reader's.
    """
    if plans.image_reader_writer not in _READERS and not said:
        raise NotImportableError(
            f"plans.json: the reader {plans.image_reader_writer} is not known, so that nobody "
            f"knows how its axes lie. Known are {', '.join(_READERS)}; else say with --axes how "
            "the training files lie, as SPL or kji."
        )
    axes = said or _READERS[plans.image_reader_writer]
    if sorted(plans.transpose_forward) != [0, 1, 2]:
        raise NotImportableError(
            f"plans.json: transpose_forward {list(plans.transpose_forward)} is no order of axes."
        )
    return "".join(axes[axis] for axis in plans.transpose_forward)


def plan_steps(
    configuration: Configuration,
    intensities: dict[str, Intensity],
    roles: Sequence[str],
    axes: str,
    members: Sequence[str],
    window: Window,
    rule: dict[str, Any],
) -> list[Step]:
    """Return the plan of a model, from its roles to the value `found`.

    Args:
        configuration: of the plans.
        intensities: of the training cases, by the channel's number.
        roles: one a channel, in the network's order; labels return to the first.
        axes: as `orient` has them.
        members: names of the networks, one a fold.
        window: how the sliding window goes.
        rule: of the decision, over logits.

    Raises:
        NotImportableError: a way of normalising or resampling that a plan cannot say.
    """
    if configuration.preprocessor_name != "DefaultPreprocessor":
        raise NotImportableError(
            f"plans.json: the preprocessor {configuration.preprocessor_name} does what its code "
            "says. Only DefaultPreprocessor is known here."
        )
    data = _resampling(configuration, "data")
    scores = _resampling(configuration, "probabilities")
    if (data is None) != (scores is None):
        raise NotImportableError(
            "plans.json resamples images or scores, and not both: what it gives has no place."
        )
    schemes = [normalisation(configuration, intensities, n) for n in range(len(roles))]
    steps = [*_on_one_grid(roles, axes), *_scaled(roles, schemes)]
    shown = "even"
    if data is not None:
        steps.append(_resample(configuration, data))
        shown = "fine"
    planes = len(configuration.patch_size) == 2
    infer: Step = {
        "do": "infer",
        "in": shown,
        "members": list(members),
        "tiling": sliding_window(window.step),
        "activation": "none",
    }
    if window.mirror:
        infer["mirror"] = [axis + planes for axis in window.mirror]
    restore: Step = {"do": "restore", "in": "logits", "to": roles[0]}
    if scores is not None and scores.across is not None:
        restore["across"] = scores.across
    return [
        *steps,
        {**infer, "out": "logits"},
        {**restore, "out": "on-slices"},
        {"do": "decide", "in": "on-slices", "rule": rule, "out": "found"},
    ]


def _on_one_grid(roles: Sequence[str], axes: str) -> list[Step]:
    """Return the steps to `turned`: one image of all channels, on the first one's slices."""
    if len(roles) == 1:
        return [{"do": "orient", "in": roles[0], "axes": axes, "out": "turned"}]
    first, *others = roles
    steps: list[Step] = [
        {"do": "orient", "in": role, "axes": axes, "out": f"{role}-turned"} for role in roles
    ]
    for role in others:
        onto = {"like": f"{first}-turned"}
        there = {"in": f"{role}-turned", "onto": onto, "order": "linear", "out": f"{role}-there"}
        steps.append({"do": "resample", **there})
    there = [f"{role}-there" for role in others]
    return [*steps, {"do": "stack", "in": f"{first}-turned", "and": there, "out": "turned"}]


def _scaled(roles: Sequence[str], schemes: list[dict[str, Any]]) -> list[Step]:
    """Return the steps from `turned` to `even`: cropped to what is not zero, and normalised.

    Raises:
        NotImportableError: channels are normalised in several ways, one of them in a mask.
    """
    if all(one == schemes[0] for one in schemes):
        return [
            _cropped("turned", "body"),
            {"do": "normalise", "in": "body", "by": schemes[0], "out": "even"},
        ]
    if any(one.get("over") == "filled" for one in schemes):
        raise NotImportableError(
            "plans.json normalises some channels in the mask of what is not zero and others "
            "otherwise, and a plan cannot say that: the mask is one of all channels."
        )
    steps: list[Step] = []
    for place, (role, by) in enumerate(zip(roles, schemes, strict=True)):
        own = f"{role}-there" if place else f"{role}-turned"
        steps.append(_cropped(own, f"{role}-body"))
        steps.append({"do": "normalise", "in": f"{role}-body", "by": by, "out": f"{role}-even"})
    first, *others = (f"{role}-even" for role in roles)
    return [*steps, {"do": "stack", "in": first, "and": others, "out": "even"}]


def _cropped(image: str, out: str) -> Step:
    return {
        "do": "crop",
        "in": image,
        "around": {"nonzero": "turned"},
        "margin": {"voxels": 0},
        "out": out,
    }


def sliding_window(step: float) -> dict[str, Any]:
    """Return nnU-Net's tiles; `step`: from one to the next, as a share of the tile."""
    return {
        "kind": "tiles",
        "starts": "nnunet",
        "step": step,
        "weight": "gaussian-nnunet",
        "outside": 0.0,
    }


@dataclass(frozen=True, slots=True)
class _Resampling:
    """`across`: the order between planes that lie far apart; None: as in the planes."""

    order: str
    across: str | None


def _resampling(configuration: Configuration, what: str) -> _Resampling | None:
    """Return how images or scores are resampled; None: they are not."""
    name = str(getattr(configuration, f"resampling_fn_{what}"))
    settings: dict[str, Any] = getattr(configuration, f"resampling_fn_{what}_kwargs")
    if name == _UNRESAMPLED:
        return None
    if name != DEFAULT_RESAMPLING:
        raise NotImportableError(
            f"plans.json: resampling_fn_{what} {name} is not known. Known are "
            f"{DEFAULT_RESAMPLING} and {_UNRESAMPLED}."
        )
    order = settings.get("order", 3 if what == "data" else 1)
    across, separate = settings.get("order_z", 0), settings.get("force_separate_z")
    allowed = (1, 3) if what == "data" else (1,)
    between = (0, 1, 3) if what == "data" else (0, 1)
    if order not in allowed or across not in between or separate not in (None, False):
        raise NotImportableError(
            f"plans.json: resampling_fn_{what}_kwargs {settings} cannot be said: order may be "
            f"{' or '.join(map(str, allowed))}, order_z {' or '.join(map(str, between))}, and "
            "force_separate_z null or false."
        )
    return _Resampling(_ORDERS[order], None if separate is False else _ORDERS[across])


def _resample(configuration: Configuration, by: _Resampling) -> Step:
    # A 2d configuration leaves slices where they are.
    spacing: list[float | None] = [*configuration.spacing]
    if len(spacing) == 2:
        spacing.insert(0, None)
    step: Step = {
        "do": "resample",
        "in": "even",
        "onto": {"spacing_mm": spacing},
        "order": by.order,
        "centres": "half-pixel",
    }
    if by.across is not None:
        step["across"] = by.across
    return {**step, "out": "fine"}


def normalisation(
    configuration: Configuration, intensities: dict[str, Intensity], channel: int
) -> dict[str, Any]:
    """Return the scheme of a channel, as `normalise` has it.

    Raises:
        NotImportableError: it is not known.
    """
    scheme = configuration.normalization_schemes[channel]
    masked = configuration.use_mask_for_norm[channel]
    if scheme == "ZScoreNormalization":
        return {"kind": "zscore", "over": "filled" if masked else "all"}
    if scheme == "CTNormalization":
        if str(channel) not in intensities:
            raise NotImportableError(
                "plans.json lacks foreground_intensity_properties_per_channel, which "
                "CTNormalization needs."
            )
        of = intensities[str(channel)]
        return {
            "kind": "window",
            "low": of.percentile_00_5,
            "high": of.percentile_99_5,
            "mean": of.mean,
            "std": max(of.std, 1e-8),
        }
    simple: dict[str, dict[str, Any]] = {
        "NoNormalization": {"kind": "factor", "factor": 1.0},
        "RescaleTo01Normalization": {"kind": "minmax"},
        "RGBTo01Normalization": {"kind": "factor", "factor": 1.0 / 255.0},
    }
    if scheme not in simple:
        raise NotImportableError(
            f"plans.json: the normalisation {scheme} is not known. Known are CTNormalization, "
            f"ZScoreNormalization, {', '.join(simple)}."
        )
    return simple[scheme]
