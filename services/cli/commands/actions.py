"""``axial complete``, ``expect``, ``retry`` and ``resend``: what a person asks to be done."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.gateway_client import GatewayClient
from services.cli.output import CommandError, console, print_json, reports_errors
from services.common.settings import load_settings

Json = Annotated[bool, typer.Option("--json", help="For machines.")]


@reports_errors
def complete(
    study_uid: Annotated[str, typer.Argument(help="Study Instance UID.")], as_json: Json = False
) -> None:
    """Say that a study is complete: work begins now, without the quiet period.

    Example: `axial complete 1.2.840.1`
    """
    answer = GatewayClient(load_settings().settings).post(f"/api/v1/studies/{study_uid}/complete")
    if answer is None:
        raise CommandError(f"No study {study_uid} was received.")
    if as_json:
        print_json(answer)
    elif answer.get("held"):
        console.print("It is being received: work begins as soon as its senders let go.")
    else:
        how = "frozen now" if answer["frozen_now"] else "was frozen before; nothing new arrived"
        console.print(f"Revision {answer['revision']} ({answer['instances']} instances) {how}.")


@reports_errors
def expect(
    study_uid: Annotated[str, typer.Argument(help="Study Instance UID.")],
    instances: Annotated[
        int, typer.Option(min=0, help="Instances of the whole study; 0: those of its series.")
    ] = 0,
    series: Annotated[
        list[str] | None, typer.Option(help="UID=N: instances of a series; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a study consists of: work begins when all of it is there.

    It may be said before the first instance arrives. What is said again replaces what was said.

    Examples: `axial expect 1.2.840.1 --instances 175`; `axial expect 1.2.840.1 --instances 180
    --series 1.2.840.1.2=175`
    """
    by_series = dict(_series_count(text) for text in series or [])
    if not instances and not by_series:
        raise CommandError("Give --instances N, or --series UID=N for each series.")
    answer = GatewayClient(load_settings().settings).post_document(
        f"/api/v1/studies/{study_uid}/expectation", {"instances": instances, "series": by_series}
    )
    if as_json:
        print_json(answer)
        return
    there = f"{answer['received']} instance(s) are there"
    if answer["frozen_now"]:
        console.print(f"{there}: revision {answer['revision']} frozen now.")
    else:
        console.print(f"Noted; {there}.")


def _series_count(text: str) -> tuple[str, int]:
    uid, _, count = text.partition("=")
    if not uid or not count.isdecimal():
        raise CommandError(f"'{text}' is no count of a series. Give --series UID=N.")
    return uid, int(count)


@reports_errors
def retry(
    study_uid: Annotated[str, typer.Argument(help="Study Instance UID.")], as_json: Json = False
) -> None:
    """Run the failed jobs of a study again.

    Example: `axial retry 1.2.840.1`
    """
    answer = GatewayClient(load_settings().settings).post(f"/api/v1/studies/{study_uid}/retry")
    if as_json:
        print_json(answer)
    else:
        console.print(f"{answer['count']} job(s) put back on the queue.")


@reports_errors
def resend(
    destination: Annotated[str, typer.Argument(help="Name of the destination.")] = "",
    to: Annotated[
        str, typer.Option("--destination", help="The same as an option: only to this one.")
    ] = "",
    study: Annotated[str, typer.Option(help="Results of the study with this UID.")] = "",
    result: Annotated[str, typer.Option(help="The result with this SOP Instance UID.")] = "",
    delivery: Annotated[str, typer.Option(help="Only the delivery with this UID.")] = "",
    delivered: Annotated[
        bool, typer.Option("--delivered", help="Also what was delivered: the destination lost it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send results again: what is dead or waits, and with --delivered what has arrived.

    What is named together must hold together. Sending twice does no harm: the objects have the
    same UIDs. Results that newer ones replace do not leave again.

    Examples: `axial resend pacs`; `axial resend --study 1.2.840.1 --delivered`;
    `axial resend --result 2.25.7 --destination pacs --delivered`; `axial resend --delivery 2.25.1`
    """
    if destination and to and destination != to:
        raise CommandError(f"Two destinations are named: '{destination}' and '{to}'.")
    wanted = {
        "destination": destination or to,
        "study_uid": study,
        "sop_instance_uid": result,
        "delivery_uid": delivery,
    }
    if not any(wanted.values()):
        raise CommandError("Name what to send again: a destination, --study, --result, --delivery.")
    client = GatewayClient(load_settings().settings)
    given = {name: value for name, value in wanted.items() if value}
    answer = client.post("/api/v1/deliveries/resend", **given, delivered=delivered)
    if as_json:
        print_json(answer)
        return
    console.print(f"{answer['count']} delivery(ies) put back on the queue.")
    if answer["delivered"]:
        console.print(f"{answer['delivered']} were delivered; --delivered sends them again.")
    if answer["superseded"]:
        console.print(f"{answer['superseded']} are replaced by newer results and stay.")
    if answer.get("held"):
        console.print(
            f"{answer['held']} are held back: the destination does not have what they refer to. "
            "Send that again; they follow it."
        )
