"""Fuzzes stored objects: ``python -m tests.fuzz.fuzz_objects CORPUS... -max_total_time=60``.

Options are libFuzzer's. Every input is a file as the study store holds it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(  # pyright: ignore[reportAttributeAccessIssue] - no stubs
    include=["services.imaging", "services.common.header_scan", "services.common.stored_objects"]
):
    from tests.fuzz.stored_object import read_everywhere

CORPUS = Path(__file__).parent / "corpus" / "objects"


def main() -> None:
    """Runs until libFuzzer ends it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "object.dcm"

        def run(data: bytes) -> None:
            file.write_bytes(data)
            read_everywhere(file)

        atheris.Setup([*sys.argv, str(CORPUS)], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
