"""docs/interop.md names every row of the checklist, and only tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
ROWS = re.compile(r"^\| ((?:R|S|T|N|AIR)-\d+) \|[^|]+\| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(test_\w+)`")

EXPECTED = [
    f"{kind}-{number}"
    for kind, last in (("R", 51), ("S", 30), ("T", 14), ("N", 6), ("AIR", 30))
    for number in range(1, last + 1)
]


def table() -> list[tuple[str, str]]:
    """(row, what covers it) in the order of the page."""
    return ROWS.findall((CHECKOUT / "docs" / "interop.md").read_text(encoding="utf-8"))


def existing_tests(pattern: str = "**/test_*.py") -> set[str]:
    """The names of the test functions in the files that match."""
    return {
        node.name
        for file in (CHECKOUT / "tests").glob(pattern)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_row_is_there_once_and_in_order() -> None:
    assert [row for row, _ in table()] == EXPECTED


def test_every_row_names_a_test_or_a_reason() -> None:
    for row, covered in table():
        reason = re.search(r"not applicable now: .{10,}", covered)
        assert TEST.findall(covered) or reason, row


def test_every_named_test_exists() -> None:
    named = {name for _, covered in table() for name in TEST.findall(covered)}
    assert named - existing_tests() == set()


def test_every_row_test_is_named_in_the_table() -> None:
    """A test called after a row stands in the row's line."""
    lines = dict(table())
    for name in existing_tests("*/reporting/test_*.py"):
        match = re.match(r"test_([rstn])(\d+)_|test_(air)_(\d+)_", name)
        if match:
            kind, number = match.group(1) or match.group(3), match.group(2) or match.group(4)
            row = f"{kind.upper()}-{number}"
            assert f"`{name}`" in lines.get(row, ""), name
