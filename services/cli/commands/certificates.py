"""``axial certificates``: what services on several machines know each other by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.output import CommandError, console, print_json, reports_errors
from services.common.trust import COMPONENTS, make_certificates


@reports_errors
def certificates(
    folder: Annotated[Path, typer.Argument(help="Where to write them; a folder of this name.")],
    replace: Annotated[
        bool, typer.Option(help="Replace what is there: every service needs the new files then.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Make an authority and a certificate for each service, for `rpc.certificates`.

    `axial up` needs none: it makes its own at every start. Services that run on several machines,
    or that something else starts, get the folder of their name: `FOLDER/reporting` and so on, each
    with tls.crt, tls.key and ca.crt. The authority's own key is not kept.

    Examples: `axial certificates site`; `axial certificates --replace site`
    """
    if folder.exists() and not replace:
        raise CommandError(f"{folder} is there already. Give --replace to make all of it anew.")
    make_certificates(folder.absolute())
    if as_json:
        print_json({"folder": str(folder), "components": list(COMPONENTS)})
        return
    console.print(f"Certificates of {', '.join(COMPONENTS)} are in {folder}.", highlight=False)
