"""No sentence holds the name of a Python class: what was raised is for the log."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import services

SERVICES = Path(services.__file__).parent
# Rooms whose words a person reads in a fate, a delivery, a health answer or a refused call.
ROOMS = ("common", "dimse", "imaging", "listener", "orchestrator", "reporting", "gateway", "cli")
# What the log itself makes of an exception.
LOG = SERVICES / "common" / "telemetry" / "logs.py"


def _is_name_of_class(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "__name__"
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "type"
    )


def _is_log_call(node: ast.AST) -> bool:
    """`_log.warning(...)`, of a logger that was just asked for, or what a door tells the log."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    logger = ast.unparse(node.func.value).startswith(("_log", "get_logger("))
    return logger or node.func.attr == "tell"


@pytest.mark.parametrize("room", ROOMS)
def test_names_of_classes_go_to_the_log_alone(room: str) -> None:
    said: list[str] = []
    for file in sorted((SERVICES / room).rglob("*.py")):
        if file == LOG:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        # What is compared is said to nobody.
        unsaid = {
            inner
            for node in ast.walk(tree)
            if _is_log_call(node) or isinstance(node, ast.Compare)
            for inner in ast.walk(node)
        }
        said += [
            f"{file.relative_to(SERVICES)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and _is_name_of_class(node) and node not in unsaid
        ]
    assert said == []
