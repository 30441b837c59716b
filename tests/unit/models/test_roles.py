"""Several roles of one model: what a manifest may say of how they lie to each other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from models.manifest import Manifest, aligns_of, frame_of
from models.manifest.lint import problems_of

Data = dict[str, Any]
SAME: Data = {"to": "image", "by": "same-frame"}
RIGID: Data = {"to": "image", "by": "rigid", "refuse_below": 0.2}


def with_roles(data: Data, **aligns: Data | None) -> Data:
    """The manifest with further roles; None: one more of use: grid."""
    changed = copy.deepcopy(data)
    for name, align in aligns.items():
        role = copy.deepcopy(changed["roles"]["image"])
        if align is not None:
            role |= {"use": "aligned", "align": align}
        changed["roles"][name] = role
    return changed


@pytest.mark.parametrize(
    ("aligns", "problem"),
    [
        ({"t2": None}, "exactly one has use: grid, not image, t2"),
        ({"t2": {**SAME, "to": "t3"}}, "there is no role t3"),
        ({"t2": {**SAME, "to": "t2"}}, "goes round and never reaches image"),
        ({"t2": {**SAME, "to": "t3"}, "t3": {**SAME, "to": "t2"}}, "goes round"),
        ({"t2": {**SAME, "refuse_below": 0.1}}, "same-frame has none"),
        ({"t2": {"to": "image", "by": "affine"}}, "rigid and affine need it"),
        ({"t2": {"to": "image", "by": "deformable"}}, "by"),
    ],
)
def test_roles_that_cannot_be_laid_over_each_other_are_refused(
    manifest_data: Data, aligns: dict[str, Data | None], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        Manifest.model_validate(with_roles(manifest_data, **aligns))


@pytest.mark.parametrize(
    ("role", "change", "problem"),
    [
        ("image", {"use": "aligned"}, "`align` says what"),
        ("image", {"align": SAME}, "`align` says what"),
        ("image", {"if_missing": "zeros"}, "there are no slices"),
        ("image", {"use": "value"}, "use"),
    ],
)
def test_a_role_that_contradicts_itself_is_refused(
    manifest_data: Data, role: str, change: Data, problem: str
) -> None:
    manifest_data["roles"][role] |= change
    with pytest.raises(ValidationError, match=problem):
        Manifest.model_validate(manifest_data)


def test_nothing_is_brought_onto_what_may_be_missing(manifest_data: Data) -> None:
    data = with_roles(manifest_data, t1=SAME, t2={**SAME, "to": "t1"})
    data["roles"]["t1"]["if_missing"] = "zeros"
    with pytest.raises(ValidationError, match="a study may lack t1"):
        Manifest.model_validate(data)


def test_what_is_registered_lies_in_a_frame_of_its_own(manifest_data: Data) -> None:
    data = with_roles(manifest_data, t1=SAME, t2=RIGID, t3={**SAME, "to": "t2"})
    roles = Manifest.model_validate(data).roles
    frames = {role: frame_of(role, aligns_of(roles)) for role in roles}
    assert frames == {"image": "image", "t1": "image", "t2": "t2", "t3": "t2"}


def problems(data: Data) -> dict[str, str]:
    found = problems_of(Manifest.model_validate(data))
    return {".".join(map(str, one.path)): one.problem for one in found}


def oriented(data: Data, *more: Data) -> Data:
    """The plan, and beside it a second image that is oriented, and what is done to that."""
    data["plan"] = [
        *data["plan"],
        {"do": "orient", "in": "t2", "axes": "RAS", "out": "second"},
        *more,
    ]
    return data


LIKE: Data = {"do": "resample", "in": "second", "onto": {"like": "head"}, "order": "linear"}


def test_images_of_two_frames_are_not_laid_over_each_other(manifest_data: Data) -> None:
    """By lint, which names the step and what to do."""
    same = with_roles(manifest_data, t2=SAME)
    assert problems(oriented(same, {**LIKE, "out": "over"})) == {
        "plan.15.out": "nothing reads over."
    }
    apart = with_roles(manifest_data, t2=RIGID)
    found = problems(oriented(apart, {**LIKE, "out": "over"}))
    assert "second lies in the frame of reference of t2" in found["plan.15.onto.like"]


def test_an_alignment_that_no_step_makes_is_refused(manifest_data: Data) -> None:
    """Of a role that is read for its grey values alone."""
    data = with_roles(manifest_data, t2=RIGID)
    data["plan"].insert(0, {"do": "orient", "in": "t2", "axes": "RAS", "out": "second"})
    for step in data["plan"]:
        if step["do"] == "normalise":
            step["by"]["of"] = "second"
    assert problems(data) == {"roles.t2.align.by": "no step registers t2."}


@pytest.mark.parametrize(
    ("step", "path", "problem"),
    [
        ({"in": "head", "to": "second"}, "in", "nothing says that image is registered"),
        ({"in": "second", "to": "second"}, "to", "t2 is aligned to image"),
        ({"in": "both", "to": "head"}, "in", "both has 2 channels"),
        ({"in": "t2", "to": "head"}, "in", "lies as the scan was stored"),
    ],
)
def test_a_registration_that_cannot_be_meant_is_refused(
    manifest_data: Data, step: Data, path: str, problem: str
) -> None:
    both = {"do": "stack", "in": "second", "and": ["second"], "out": "both"}
    register = {"do": "register", **step, "out": "there"}
    found = problems(oriented(with_roles(manifest_data, t2=RIGID), both, register))
    assert problem in found[f"plan.16.{path}"]


def test_labels_of_a_grid_that_was_moved_do_not_return(manifest_data: Data) -> None:
    data = oriented(
        with_roles(manifest_data, t2=RIGID),
        {"do": "register", "in": "second", "to": "head", "out": "there"},
        {"do": "normalise", "in": "there", "by": {"kind": "minmax"}, "out": "scaled2"},
        {
            "do": "infer",
            "in": "scaled2",
            "members": ["fine"],
            "tiling": {"kind": "tiles", "starts": "monai"},
            "activation": "none",
            "out": "scores2",
        },
        {"do": "restore", "in": "scores2", "to": "t2", "out": "back2"},
    )
    assert "was moved to" in problems(data)["plan.18.in"]


def test_an_input_that_may_be_missing_is_refused_while_no_result_says_so(
    manifest_data: Data,
) -> None:
    data = with_roles(manifest_data, t2=SAME)
    data["roles"]["t2"]["if_missing"] = "zeros"
    assert "no result of this version" in problems(data)["roles.t2.if_missing"]
