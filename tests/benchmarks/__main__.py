"""``python -m tests.benchmarks``: every figure in one table, and as JSON for each room."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.rows import Row, machine

# Modules with a function `rows() -> list[Row]`.
BENCHMARKS = (
    "whole_pipeline",
    "whole_stack",
    "whole_demo",
    "receive_engine",
    "receive_sending",
    "receive_volume",
    "results_objects",
    "models_networks",
    "models_numbers",
)
OUT = Path("build/bench")


def main() -> int:
    """Runs the benchmarks (or those named), writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    chosen = parser.parse_args().names or BENCHMARKS
    rows: list[Row] = []
    for name in chosen:
        found = importlib.import_module(f"tests.benchmarks.{name}").rows()
        rows += [row if isinstance(row, Row) else Row(**row) for row in found]
        _write(rows)  # what is measured is kept when a later one is broken off
    _print(rows)
    return 0


def _write(rows: list[Row]) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for room in sorted({row.name.partition("-")[0] for row in rows}):
        own = [row.as_json() for row in rows if row.name.startswith(f"{room}-")]
        (OUT / f"{room}.json").write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")


def _print(rows: list[Row]) -> None:
    table = Table("figure", "ours", "peer", "unit", "ratio", "target", "reached")
    for row in rows:
        sign = "≥" if row.better == "higher" else "≤"
        table.add_row(
            row.name,
            f"{row.ours:.4g}",
            "-" if row.peer is None else f"{row.peer:.4g}",
            row.unit,
            f"{row.ratio:.4g}",
            f"{sign} {row.target:g}",
            "[green]yes[/green]" if row.reached else "[red]no[/red]",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()))


if __name__ == "__main__":
    sys.exit(main())
