"""Names on the wire: whatever roles, models and networks are called, no two things share one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from models.manifest import (
    ANSWER_TENSOR,
    LABELS_TENSOR,
    REQUEST_TENSOR,
    TRITON_DATATYPES,
    plan_model_name,
    triton_model_name,
    volume_tensor_name,
)
from models.manifest.base import Name

NAME = TypeAdapter(Name)
# The pattern of `Name` in Python's dialect, in which `$` lets a last line break pass.
NAMES = st.from_regex(r"\A[a-z][a-z0-9]*(-[a-z0-9]+)*\Z").filter(lambda name: len(name) <= 64)
DIGESTS = st.from_regex(r"\A[0-9a-f]{64}\Z")
DTYPES = st.sampled_from(sorted(TRITON_DATATYPES))


@given(NAMES)
def test_every_name_of_these_tests_is_one(name: str) -> None:
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize("name", ["a--b", "a-", "-a", "A", "a.b", "a_b", "", "a\n", "1a", "a" * 65])
def test_what_could_be_read_as_two_names_is_none(name: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(name)


@given(NAMES, DTYPES, NAMES, DTYPES)
def test_no_two_roles_or_types_share_a_tensor(one: str, of: str, other: str, as_: str) -> None:
    same = volume_tensor_name(one, of) == volume_tensor_name(other, as_)  # type: ignore[arg-type]
    assert same is ((one, of) == (other, as_))


@given(NAMES | st.sampled_from(["labels", "answer", "request", "t1-gd", "volume"]), DTYPES)
def test_a_role_stands_in_its_tensor_as_it_is_written(role: str, dtype: str) -> None:
    tensor = volume_tensor_name(role, dtype)  # type: ignore[arg-type]
    assert tensor not in (LABELS_TENSOR, ANSWER_TENSOR, REQUEST_TENSOR)
    assert tensor.split(".") == ["VOLUME", role, dtype]


@given(NAMES, DIGESTS, NAMES)
def test_a_model_in_triton_names_its_build(name: str, digest: str, network: str) -> None:
    served, plan = triton_model_name(name, digest), plan_model_name(name, digest, network)
    assert served.split("--") == [name, digest[:12]]
    assert plan.split("--") == [name, digest[:12], network]
    assert re.fullmatch(r"[a-z0-9-]+", plan)
