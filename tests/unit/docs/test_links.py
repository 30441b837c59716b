"""Every page that a page links to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "k8s/*.md", "models/catalogue/*/*.md")
    for page in CHECKOUT.glob(pattern)
)
ROOMS = ("services", "models", "tests", "k8s", "proto")
NAMES = {file.name for room in ROOMS for file in (CHECKOUT / room).rglob("*.py")}
# A path of code in a page; an address on the web is none.
_CODE = re.compile(r"(?<![\w/:.{},-])((?:[\w{},-]+/)*[\w{},-]+\.py)\b(?!:\S*//)")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = _LINK.findall(page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_named_file_of_code_exists(page: Path) -> None:
    """Below the checkout, below tests/ (as docs/security.md says), or the name of a file."""
    named = {
        one
        for path in _CODE.findall(page.read_text(encoding="utf-8"))
        for one in _alternatives(path)
    }
    missing = [path for path in sorted(named) if not _is_of_the_checkout(path)]
    assert missing == []


def _alternatives(path: str) -> list[str]:
    """`a/{b,c}.py` is two files."""
    found = re.search(r"{([^}]*)}", path)
    if found is None:
        return [path]
    return [path.replace(found[0], one) for one in found[1].split(",")]


def _is_of_the_checkout(path: str) -> bool:
    if "/" not in path:
        return path in NAMES
    return any((CHECKOUT / root / path).is_file() for root in ("", "tests"))


def test_every_decision_is_listed() -> None:
    folder = CHECKOUT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in folder.glob("0*.md") if page.name not in listed] == []


def test_readme_names_the_two_commands_and_no_placeholder() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
    assert "BENCHTABLE" not in text
