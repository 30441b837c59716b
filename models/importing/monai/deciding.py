"""A bundle's inferer and its transforms after the network, as the steps of a plan.

Their order counts: `Invertd` before `AsDiscreted` takes scores back to the scan and decides there,
after it labels go back by the nearest voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from models.importing.monai.components import Component
from models.importing.monai.preparing import Prepared

__all__ = ["Answer", "answer_steps", "patch_of"]

Step = dict[str, Any]
_NOTHING: Final = frozenset(
    {"EnsureTyped", "CastToTyped", "SaveImaged", "DeleteItemsd", "ToDeviced", "Identityd",
     "SelectItemsd"}
)  # fmt: skip
_WEIGHTS: Final = {"constant": "constant", "gaussian": "gaussian-monai"}
# What MONAI's evaluator calls the network's answer.
_ANSWER: Final = "pred"
_SIGMA: Final = 0.125


class Answer:
    """How scores become labels, as it is found.

    Attributes:
        activation: of the scores: softmax, sigmoid or none.
        steps: after the network, without the values' names.
        is_back: whether the value lies on the scan's own slices.
        decided: whether it is labels already.
    """

    def __init__(self) -> None:
        self.activation = "none"
        self.steps: list[Step] = []
        self.is_back = False
        self.decided = False


def patch_of(inferer: Component) -> list[int]:
    """Return the network's patch, x first.

    Raises:
        NotImportableError: there is none: the whole image goes through at once, or single slices.
    """
    if inferer.name != "SlidingWindowInferer":
        raise inferer.refused(
            "is not known: only SlidingWindowInferer is, whose network has a patch of one size."
        )
    sides = inferer.numbers("roi_size", 3)
    if any(side < 1 or side != int(side) for side in sides):
        raise inferer.refused(f"has roi_size {sides}; each side has to be a number of voxels.")
    return [int(side) for side in sides]


def answer_steps(
    inferer: Component,
    transforms: Sequence[Component],
    prepared: Prepared,
    members: Sequence[str],
    classes: int,
) -> list[Step]:
    """Return the steps from the network to `found`, labels on the scan's own slices.

    Args:
        inferer: of the bundle.
        transforms: its postprocessing, in order.
        prepared: what comes before the network.
        members: names of the networks.
        classes: scores of a voxel.

    Raises:
        NotImportableError: a component, or an argument of one, that a plan cannot say.
    """
    answer = Answer()
    for transform in transforms:
        if transform.is_about(_ANSWER):
            _add(transform, answer, classes)
    if not answer.decided:
        where = transforms[-1] if transforms else inferer
        raise where.refused("comes last, and no AsDiscreted says what a voxel becomes.")
    if not answer.is_back:
        # The bundle's own labels lie on the network's grid; they have to lie on the slices.
        answer.steps.append({"do": "restore", "to": "image"})
    infer: Step = {
        "do": "infer",
        "in": prepared.last,
        "members": list(members),
        "tiling": _tiling(inferer),
        "activation": answer.activation,
    }
    if answer.activation != "none":
        infer["merge"] = {"kind": "mean", "of": "logits"}
    steps: list[Step] = [*prepared.steps, {**infer, "out": "scores"}]
    for place, step in enumerate(answer.steps, 1):
        last = place == len(answer.steps)
        name = "found" if last else f"{_NAMES[step['do']]}-{place}"
        steps.append({"do": step["do"], "in": steps[-1]["out"], **step, "out": name})
    return steps


_NAMES: Final = {"restore": "on-slices", "decide": "decided", "clean": "cleaned"}


def _tiling(inferer: Component) -> Step:
    inferer.only(
        "roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval",
        "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh",
    )  # fmt: skip
    (overlap,) = inferer.numbers("overlap", 1) if "overlap" in inferer.arguments else [0.25]
    mode = inferer.argument("mode", "constant")
    if mode not in _WEIGHTS:
        raise inferer.refused(f"has mode {mode!r}; {' or '.join(_WEIGHTS)} can be said.")
    if mode == "gaussian":
        inferer.require("sigma_scale", _SIGMA, _SIGMA)
    padding = inferer.argument("padding_mode", "constant")
    if padding not in ("constant", "replicate"):
        raise inferer.refused(f"has padding_mode {padding!r}; constant or replicate can be said.")
    outside = None if padding == "replicate" else float(inferer.argument("cval", 0.0))
    return {
        "kind": "tiles",
        "starts": "monai",
        "step": 1.0 - overlap,
        "weight": _WEIGHTS[str(mode)],
        "outside": outside,
    }


def _add(transform: Component, answer: Answer, classes: int) -> None:
    if transform.name in _NOTHING:
        return
    if transform.name == "Activationsd":
        _activate(transform, answer, classes)
    elif transform.name == "Invertd":
        transform.require("nearest_interp", True, answer.decided)
        if answer.is_back:
            raise transform.refused("comes twice.")
        answer.steps.append({"do": "restore", "to": "image"})
        answer.is_back = True
    elif transform.name == "AsDiscreted":
        answer.steps.append({"do": "decide", "rule": _rule(transform, answer, classes)})
        answer.decided = True
    elif transform.name == "KeepLargestConnectedComponentd":
        _keep_largest(transform, answer, classes)
    else:
        raise transform.refused(
            "is not known. Known are Activationsd, Invertd, AsDiscreted and "
            "KeepLargestConnectedComponentd; correct the bundle, or say the model by hand."
        )


def _activate(transform: Component, answer: Answer, classes: int) -> None:
    transform.only("keys", "softmax", "sigmoid", "other", "dim", "allow_missing_keys")
    transform.require("other", None, None)
    softmax, sigmoid = transform.argument("softmax", False), transform.argument("sigmoid", False)
    if bool(softmax) == bool(sigmoid):
        raise transform.refused("says neither softmax nor sigmoid, or both.")
    if sigmoid and classes > 1:
        raise transform.refused(
            f"makes {classes} classes that overlap (sigmoid), and nothing in a bundle says which "
            "lies within which. Say the model as a plan by hand, with a rule of regions."
        )
    if answer.decided:
        raise transform.refused("comes after the labels were made.")
    if answer.is_back:
        # Scores went back as they were: what is largest stays so, and nothing else is asked below.
        answer.activation = "none"
        if sigmoid:
            raise transform.refused("comes after Invertd; only before it can be said.")
        return
    answer.activation = "softmax" if softmax else "sigmoid"


def _rule(transform: Component, answer: Answer, classes: int) -> Step:
    transform.only(
        "keys", "argmax", "to_onehot", "threshold", "rounding", "allow_missing_keys", "dim",
        "keepdim", "dtype",
    )  # fmt: skip
    for name in ("to_onehot", "rounding"):
        transform.require(name, None, None, False)
    if answer.decided:
        raise transform.refused("comes twice.")
    threshold = transform.argument("threshold", None)
    if transform.argument("argmax", False) is True and threshold is None and classes > 1:
        return {"kind": "argmax", "segments": list(range(1, classes))}
    if threshold is not None and classes == 1 and answer.activation == "sigmoid":
        return {"kind": "threshold", "channel": 0, "at": float(threshold), "segment": 1}
    raise transform.refused(
        f"decides over {classes} classes by {dict(transform.arguments)}; an argmax over several, "
        "or a threshold of one after a sigmoid, can be said."
    )


def _keep_largest(transform: Component, answer: Answer, classes: int) -> None:
    transform.only(
        "keys", "applied_labels", "is_onehot", "independent", "connectivity", "num_components",
        "allow_missing_keys",
    )  # fmt: skip
    transform.require("num_components", 1, 1)
    transform.require("independent", True, True)
    transform.require("connectivity", None, None, 3)
    if not answer.decided:
        raise transform.refused("comes before AsDiscreted; labels alone have components.")
    asked = transform.argument("applied_labels", None)
    labels: list[int] = (
        list(range(1, max(classes, 2)))
        if asked is None
        else [asked] if isinstance(asked, int) else list(asked)
    )  # fmt: skip
    answer.steps += [
        {
            "do": "clean",
            "segment": label,
            "by": {"kind": "largest-component", "connectivity": 26},
        }
        for label in labels
        if label > 0
    ]
