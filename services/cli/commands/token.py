"""``axial token``: a new bearer token for the gateway or STOW-RS."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Annotated

import typer

from services.cli.output import console, print_json, reports_errors
from services.common.settings.access import new_token


class Good(StrEnum):
    """What a token is good for."""

    READ = "read"
    ACT = "act"
    STORE = "store"


@reports_errors
def token(
    name: Annotated[str, typer.Argument(help="Whose it is, e.g. `worklist`.")],
    can: Annotated[
        list[Good] | None,
        typer.Option(help="What it is good for: read, act, store. May be given several times."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")] = 365,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Make a bearer token and the lines of the settings that let it in.

    The token is shown once; the settings hold its hash. read: studies and what became of them;
    act: complete, expect, retry, resend; store: STOW-RS.

    Examples: `axial token worklist`; `axial token operator --can read --can act --days 90`
    """
    text, digest = new_token()
    actions = [str(one) for one in (can or [Good.READ])]
    until = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=days)
    entry = {"name": name, "sha256": digest, "actions": actions, "expires": until.isoformat()}
    if as_json:
        print_json({"token": text, "settings": entry})
        return
    console.print(f"The token of {name}, shown this once:\n", highlight=False)
    console.print(text, highlight=False, soft_wrap=True)
    console.print("\nFor axial.yaml:\n", highlight=False)
    console.print(
        "access:\n  tokens:\n"
        f"    - name: {name}\n      sha256: {digest}\n"
        f"      actions: \\[{', '.join(actions)}]\n      expires: {until.isoformat()}",
        highlight=False,
        soft_wrap=True,
    )
