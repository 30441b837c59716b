"""A bundle's transforms before its network, as the steps of a plan (MONAI 1.3 to 1.6).

MONAI sees a volume with x first: turned to RAS its first axis goes to the right. `Spacingd` begins
at the first voxel's centre and goes on in millimetres. What MONAI does to files, types and devices
has no step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from models.importing.errors import NotImportableError
from models.importing.monai.components import Component
from models.importing.monai.configuration import Expression

__all__ = ["Prepared", "prepare"]

Step = dict[str, Any]
# They say where and as what type voxels are held.
_NOTHING: Final = frozenset(
    {
        "LoadImaged", "EnsureChannelFirstd", "AddChanneld", "EnsureTyped", "CastToTyped",
        "ToTensord", "ToDeviced", "SelectItemsd", "Identityd",
    }
)  # fmt: skip
_FLOATS: Final = frozenset({"float", "float16", "float32", "float64", "double", "half"})
_ORDERS: Final = {"bilinear": "linear", "nearest": "nearest", "trilinear": "linear"}
_AS_STORED: Final = "ijk"


class Prepared:
    """The steps until the network, as they are found.

    Attributes:
        steps: so far; the first turns the volume.
        spacing_mm: of the network's grid, if it is told.
        axes: how the network sees the volume; empty until it is turned.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.spacing_mm: list[float] | None = None
        self.axes = ""

    @property
    def last(self) -> str:
        """The name of the newest value."""
        return str(self.steps[-1]["out"]) if self.steps else "image"

    @property
    def changes_grid(self) -> bool:
        """Whether the network's grid is another than the turned volume's."""
        return any(step["do"] in ("resample", "crop") for step in self.steps)

    def turn(self, axes: str) -> None:
        """Turn the volume."""
        self.axes = axes
        self.steps.append({"do": "orient", "in": "image", "axes": axes, "out": "turned"})

    def add(self, step: Step, out: str) -> None:
        """Add a step after the newest value; the volume is as stored where nothing turned it."""
        if not self.axes:
            self.turn(_AS_STORED)
        taken = {one["out"] for one in self.steps}
        name = next(one for one in (out, *(f"{out}-{n}" for n in range(2, 99))) if one not in taken)
        self.steps.append({"do": step["do"], "in": self.last, **step, "out": name})


def prepare(transforms: Sequence[Component], key: str) -> Prepared:
    """Return the steps that a bundle's preprocessing is.

    Args:
        transforms: in their order.
        key: what the image is called.

    Raises:
        NotImportableError: a transform, or an argument of one, that a plan cannot say.
    """
    prepared = Prepared()
    _require_loaded(transforms, key)
    for transform in transforms:
        if not transform.is_about(key):
            continue
        if transform.name in _NOTHING:
            _require_floats(transform)
            continue
        if transform.name not in _KNOWN:
            raise transform.refused(
                f"is not known. Known are {', '.join(sorted(_KNOWN))}; correct the bundle, or say "
                "the model as a plan by hand."
            )
        _KNOWN[transform.name](transform, prepared)
    if not prepared.axes:
        prepared.turn(_AS_STORED)
    return prepared


def _require_loaded(transforms: Sequence[Component], key: str) -> None:
    """Require that what is loaded is what the metadata calls the image.

    Else every transform would be taken for one of something else, and left out.
    """
    for transform in transforms:
        if transform.name == "LoadImaged" and not transform.is_about(key):
            raise transform.refused(
                f"loads {transform.argument('keys', None)!r}, and configs/metadata.json calls the "
                f"image {key!r}. Call it alike in both."
            )
    if not any(transform.is_about(key) for transform in transforms):
        raise NotImportableError(f"No transform is about the image, which is called {key!r}.")


def _require_floats(transform: Component) -> None:
    """Require that values stay what they are: a type of whole numbers would cut them."""
    kind = transform.arguments.get("dtype")
    said = kind.text if isinstance(kind, Expression) else str(kind)
    if kind is not None and said.rsplit(".", 1)[-1] not in _FLOATS:
        raise transform.refused(f"has dtype {said}; only {', '.join(sorted(_FLOATS))} keep values.")


def _orientation(transform: Component, prepared: Prepared) -> None:
    transform.only(
        "keys", "axcodes", "labels", "allow_missing_keys", "lazy", "as_closest_canonical"
    )
    transform.require("as_closest_canonical", False, False)
    axes = transform.argument("axcodes", None)
    if not isinstance(axes, str) or len(axes) != 3:
        raise transform.refused(f"has axcodes {axes!r}, which are no three letters as RAS.")
    if prepared.axes:
        raise transform.refused(
            "comes after a transform that changes voxels; a plan turns the volume first."
        )
    prepared.turn(axes.upper())


def _spacing(transform: Component, prepared: Prepared) -> None:
    transform.only(
        "keys", "pixdim", "mode", "padding_mode", "diagonal", "align_corners", "dtype",
        "recompute_affine", "scale_extent", "allow_missing_keys", "lazy", "min_pixdim",
        "max_pixdim", "ensure_same_shape",
    )  # fmt: skip
    transform.require("diagonal", False, False)
    transform.require("scale_extent", False, False)
    transform.require("padding_mode", "border", "border")
    for name in ("min_pixdim", "max_pixdim"):
        transform.require(name, None, None)
    mode = transform.argument("mode", "bilinear")
    one = mode[0] if isinstance(mode, list | tuple) and mode else mode  # pyright: ignore[reportUnknownVariableType]
    if one not in _ORDERS:
        raise transform.refused(f"has mode {mode!r}; {' or '.join(_ORDERS)} can be said.")
    prepared.spacing_mm = transform.numbers("pixdim", 3)
    onto = {"spacing_mm": prepared.spacing_mm}
    order = _ORDERS[str(one)]  # pyright: ignore[reportUnknownArgumentType]
    prepared.add({"do": "resample", "onto": onto, "order": order, "centres": "spacing"}, "even")


def _scale_range(transform: Component, prepared: Prepared) -> None:
    transform.only(
        "keys", "a_min", "a_max", "b_min", "b_max", "clip", "dtype", "allow_missing_keys"
    )
    transform.require("clip", False, True)
    (low,), (high,) = transform.numbers("a_min", 1), transform.numbers("a_max", 1)
    (to_low,), (to_high,) = transform.numbers("b_min", 1), transform.numbers("b_max", 1)
    by = {"kind": "window", "low": low, "high": high, "to": [to_low, to_high]}
    prepared.add({"do": "normalise", "by": by}, "scaled")


def _scale(transform: Component, prepared: Prepared) -> None:
    transform.only("keys", "minv", "maxv", "factor", "channel_wise", "dtype", "allow_missing_keys")
    transform.require("factor", None, None)
    low = transform.argument("minv", 0.0)
    high = transform.argument("maxv", 1.0)
    if low is None or high is None or low >= high:
        raise transform.refused(f"scales to {low!r} and {high!r}, which are no range.")
    prepared.add({"do": "normalise", "by": {"kind": "minmax"}}, "scaled")
    if (low, high) != (0, 1):
        by = {"kind": "window", "low": 0.0, "high": 1.0, "to": [float(low), float(high)]}
        prepared.add({"do": "normalise", "by": by}, "ranged")


def _standardise(transform: Component, prepared: Prepared) -> None:
    transform.only(
        "keys", "subtrahend", "divisor", "nonzero", "channel_wise", "dtype", "allow_missing_keys"
    )
    for name in ("subtrahend", "divisor"):
        transform.require(name, None, None)
    over = "nonzero" if transform.argument("nonzero", False) else "all"
    prepared.add({"do": "normalise", "by": {"kind": "zscore", "over": over}}, "scaled")


def _crop(transform: Component, prepared: Prepared) -> None:
    transform.only(
        "keys", "source_key", "margin", "k_divisible", "allow_smaller", "mode", "channel_indices",
        "start_coord_key", "end_coord_key", "allow_missing_keys", "lazy",
    )  # fmt: skip
    transform.require("k_divisible", 1, 1)
    (margin,) = transform.numbers("margin", 1) if "margin" in transform.arguments else [0.0]
    if margin and transform.argument("allow_smaller", False) is not True:
        raise transform.refused(
            "has a margin that may reach beyond the image, where MONAI pads; only allow_smaller: "
            "true can be said."
        )
    if not prepared.axes:
        prepared.turn(_AS_STORED)
    around = {"of": prepared.last, "above": 0.0}
    prepared.add(
        {"do": "crop", "around": around, "margin": {"voxels": int(margin)}, "otherwise": "whole"},
        "body",
    )


_KNOWN: Final[dict[str, Callable[[Component, Prepared], None]]] = {
    "Orientationd": _orientation,
    "Spacingd": _spacing,
    "ScaleIntensityRanged": _scale_range,
    "ScaleIntensityd": _scale,
    "NormalizeIntensityd": _standardise,
    "CropForegroundd": _crop,
}
