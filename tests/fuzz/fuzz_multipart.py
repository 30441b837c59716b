"""Fuzzes the HTTP door: ``python -m tests.fuzz.fuzz_multipart CORPUS... -max_total_time=60``.

Options are libFuzzer's. The first byte chooses: the multipart parser alone, a whole request, or
the parsers of headers; the second says in what pieces the body comes.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris
import structlog

_INSTRUMENTED = ["services.listener.stow", "services.common.header_scan"]

with atheris.instrument_imports(include=_INSTRUMENTED):  # pyright: ignore[reportAttributeAccessIssue] - made by a star import
    from tests.fuzz.stow_door import open_stow, run

CORPUS = Path(__file__).parent / "corpus" / "multipart"


def main() -> None:
    """Runs until libFuzzer ends it."""
    # Each refused instance is an event; there are thousands a second.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with open_stow() as door:
        atheris.Setup([*sys.argv, str(CORPUS)], lambda data: run(door, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
