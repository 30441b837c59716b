"""``axial models show``: what a model takes, finds and warns of, and what is built of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from models.building import ListedModel
from models.manifest import Disagreement, Manifest, Plausibility, Segment
from services.cli.commands.model_builds import Json, manifest_of, models_of
from services.cli.output import console, print_json, reports_errors
from services.common.settings import load_settings

_MIB = 1024 * 1024
_THEN = {"withhold": "the result does not leave", "flag": "the report says so"}


@reports_errors
def show(
    name: Annotated[str, typer.Argument(help="A model of the catalogue, or its folder.")],
    as_json: Json = False,
) -> None:
    """Show what a model takes, what it finds, with which codes, and what is built of it."""
    settings = load_settings().settings
    listed = next((each for each in models_of(settings, "") if each.name == name), None)
    manifest = listed.manifest if listed is not None else manifest_of(settings, name)
    if as_json:
        print_json(manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        return
    identity = manifest.identity
    console.print(
        f"[bold]{identity.title}[/bold] ({identity.name} {identity.version})", highlight=False
    )
    console.print(Text(" ".join(identity.description.split())))
    console.print(Text(f"By {identity.manufacturer}. Licence {identity.licence}."), style="dim")
    if identity.citation:
        console.print(Text(identity.citation), style="dim")
    console.print(Group(*_parts(manifest, listed)), highlight=False)


def _parts(manifest: Manifest, listed: ListedModel | None) -> list[Table | Text]:
    parts: list[Table | Text] = [Text("\nTakes", style="bold"), _roles(manifest)]
    parts += [Text("\nFinds", style="bold"), _segments(manifest.segments)]
    if manifest.findings:
        parts += [Text("\nLooks at", style="bold"), _findings(manifest)]
    parts += [Text("\nBuilt", style="bold"), _builds(listed)]
    return parts


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))


def _roles(manifest: Manifest) -> Table:
    table = _plain_table()
    for name, role in manifest.roles.items():
        used = "its slices carry the labels" if role.use == "grid" else "brought onto another"
        missing = "" if role.if_missing == "refuse" else "may be missing"
        table.add_row(name, role.title, ", ".join(filter(None, [used, missing])))
    return table


def _segments(segments: tuple[Segment, ...]) -> Table:
    table = _plain_table()
    for segment in segments:
        code = segment.type
        table.add_row(
            str(segment.number), segment.label, f"{code.meaning} ({code.scheme} {code.value})"
        )
    return table


def _findings(manifest: Manifest) -> Table:
    table = _plain_table()
    for finding in manifest.findings:
        label = manifest.segment(finding.segment).label
        table.add_row(label, _limit(finding), _THEN[finding.otherwise])
    return table


def _limit(finding: Disagreement | Plausibility) -> str:
    if isinstance(finding, Disagreement):
        return f"{finding.number.replace('_', ' ')} above {finding.above:g}"
    return f"outside {finding.min_ml:g} to {finding.max_ml:g} mL"


def _builds(listed: ListedModel | None) -> Table | Text:
    if listed is None or not listed.builds:
        return Text("not yet: axial models build", style="yellow")
    table = _plain_table()
    for build in listed.builds:
        record = build.record
        size = sum(file.bytes for file in record.files) / _MIB
        dice = min((each.dice for each in record.parity), default=None)
        table.add_row(
            record.digest[:12],
            f"{record.target} {record.precision}",
            f"{size:.0f} MiB",
            "" if dice is None else f"parity Dice {dice:.5f}",
            "served" if build.served else "",
        )
    return table
