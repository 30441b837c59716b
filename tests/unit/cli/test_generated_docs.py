"""Generated pages are current."""

from __future__ import annotations

from services.cli.generated_docs import main, pages


def test_generated_pages_are_current() -> None:
    assert main(["--check"]) == 0, "run: make docs"


def test_configuration_page_explains_every_group() -> None:
    page = next(text for file, text in pages().items() if file.name == "configuration.md")
    for group in ("listener", "triton", "orchestrator", "reporting.destinations[]", "gateway"):
        assert f"\n## {group}\n" in page
    assert "| `quiet_period_s` | float | `5.0` |" in page
