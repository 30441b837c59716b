"""One stack per test module; modules run one after another (two cores, one Triton)."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.e2e.stack import StackUnderTest, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[StackUnderTest]:
    """A running stack, shared by the tests of a module; studies have names of their own."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
