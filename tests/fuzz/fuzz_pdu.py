"""Fuzzes the DICOM door: ``python -m tests.fuzz.fuzz_pdu CORPUS... -max_total_time=60``.

Options are libFuzzer's. The first byte chooses: the parsers alone, or a whole association that
begins with the rest, with a good request before it or without.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(  # pyright: ignore[reportAttributeAccessIssue] - no stubs
    include=["services.dimse", "services.listener.door", "services.common.header_scan"]
):
    from tests.fuzz.dicom_door import Door, open_door, parse_everything

CORPUS = Path(__file__).parent / "corpus" / "pdu"
REQUEST = (CORPUS / "request").read_bytes()[1:]


def run(door: Door, data: bytes) -> None:
    """One input."""
    if not data:
        return
    kind, rest = data[0] % 3, data[1:]
    if kind == 0:
        parse_everything(rest)
    else:
        door.serve(rest if kind == 1 else REQUEST + rest)


def main() -> None:
    """Runs until libFuzzer ends it."""
    with open_door() as door:
        atheris.Setup([*sys.argv, str(CORPUS)], lambda data: run(door, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
