"""Brings the real scans and weights that tests need into the cache: `make test-data`."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from tests.builders.scans import (
    CACHE,
    PUBLIC,
    ScanError,
    fetch,
    is_there,
    listed_scans,
    listed_weights,
    unpack,
)


def main(arguments: list[str] | None = None) -> int:
    """Brings what is missing; returns the exit code."""
    options = _options(arguments)
    console = Console(stderr=True)
    listed = {**listed_scans(), **listed_weights()}
    unknown = sorted(set(options.names) - listed.keys())
    if unknown:
        console.print(f"There is no {', '.join(unknown)}. Known are: {', '.join(listed)}")
        return 2
    wanted = [scan for scan in listed.values() if not options.names or scan.name in options.names]
    there = [scan for scan in wanted if is_there(scan)]
    try:
        copied = [scan for scan in wanted if scan not in there and unpack(scan) is not None]
        missing = [scan for scan in wanted if not is_there(scan)]
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not missing,
        ) as progress:
            bar = progress.add_task("", total=sum(scan.size for scan in missing))
            for scan in missing:
                progress.update(bar, description=scan.name)
                fetch(scan, lambda size: progress.advance(bar, size), base=options.base)
    except ScanError as error:
        console.print(str(error), highlight=False, soft_wrap=True)
        return 1
    console.print(
        f"{CACHE} has {len(wanted)} of {len(listed)} scans and weights: {len(there)} were there, "
        f"{len(copied)} came from the shared folder, {len(missing)} from their public places.",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fetch_data",
        description="Brings the scans and weights that tests need (tests/data.toml) into "
        "build/cache: from the folder that AXIAL_SHARED names where they are, else from their "
        "public places.",
        epilog="examples: make test-data; python -m tests.fetch_data ge-ct-head-tilted",
    )
    parser.add_argument("names", nargs="*", help="scans or weights (default: all)")
    parser.add_argument("--base", default=PUBLIC, help="the public place (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
