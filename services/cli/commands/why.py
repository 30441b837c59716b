"""``axial why``: the fate of a study or series, in sentences."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.gateway_client import GatewayClient
from services.cli.output import CommandError, coloured, console, print_json, reports_errors
from services.common.settings import load_settings

_BECAUSE = {
    "age": "because they were older than the site keeps them (retention.max_age_d)",
    "size": "because all images took more than the site keeps (retention.max_bytes)",
    "space": "because the disk was getting full (retention.min_free_bytes)",
}


@reports_errors
def why(
    uid: Annotated[str, typer.Argument(help="Study or Series Instance UID.")],
    values: Annotated[
        bool, typer.Option("--values", help="Also print the values that led to it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say how a study or a series ended, and why.

    Examples: `axial why 1.2.840.1`; `axial why 1.2.840.1.5 --values`
    """
    client = GatewayClient(load_settings().settings)
    fates = client.get(f"/api/v1/studies/{uid}/fate")
    if fates is None:
        fates = client.get(f"/api/v1/series/{uid}/fate")
    if fates is None:
        raise CommandError(f"Neither a study nor a series {uid} was received.")
    if as_json:
        print_json(fates)
        return
    if not fates:
        console.print(
            f"Nothing is decided on {uid} yet; `axial status` says what becomes of its study.",
            highlight=False,
        )
    for fate in fates:
        _tell(fate, with_values=values)


def _tell(fate: dict[str, Any], *, with_values: bool) -> None:
    number = fate["series_number"] or "without number"
    console.print(
        f"[bold]Series {number}[/bold] ({fate['modality'] or 'no modality'}, "
        f"{_images(fate)}), {fate['model']}: {coloured(fate['fate'] or 'under way')}",
        highlight=False,
    )
    console.print(f"  {fate['sentence']}", highlight=False)
    if fate["remedy"]:
        console.print(f"  {fate['remedy']}", highlight=False)
    if fate["images_removed_at"]:
        console.print(f"  {_removal(fate)}", highlight=False)
    for conflict in fate.get("conflicts", ()):
        console.print(f"  {conflict}", highlight=False)
    if fate.get("incomplete"):
        console.print(f"  {fate['incomplete']}", highlight=False)
    for sentence in fate.get("not_delivered", ()):
        console.print(f"  {sentence}", highlight=False)
    if fate["reason"]:
        console.print(
            f"  [dim]reason {fate['reason']}: see docs/reasons/{fate['reason']}.md[/dim]",
            highlight=False,
        )
    if with_values:
        for name, value in fate["values"].items():
            console.print(f"    {name} = {value}", highlight=False)


def _images(fate: dict[str, Any]) -> str:
    images = fate["images"]
    return "1 image" if images == 1 else f"{images} images"


def _removal(fate: dict[str, Any]) -> str:
    because = _BECAUSE.get(fate["images_removed_because"], "by the site's retention")
    return (
        f"Its images were removed on {fate['images_removed_at'][:10]} {because}. Send the series "
        "again if they are needed."
    )
