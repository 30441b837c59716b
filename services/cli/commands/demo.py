"""``axial demo``: the whole way, for real, with one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.demo.run import DEFAULT_FOLDER, run_demo
from services.cli.output import reports_errors


@reports_errors
def demo(
    study: Annotated[
        Path | None, typer.Option(help="Folder with a study of yours (default: a whole head).")
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where data, results and logs are kept.")
    ] = DEFAULT_FOLDER,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running.")] = False,
) -> None:
    """Send a study through the whole stack and show what comes back.

    Builds the models, starts every process and a stand-in PACS, sends the study by C-STORE, waits
    for the results, and writes them with a picture to build/demo/results.

    Examples: `axial demo`; `axial demo --study ~/head`; `axial demo --keep`
    """
    run_demo(study, keep=keep, folder=folder)
