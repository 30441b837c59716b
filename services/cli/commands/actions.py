"""``axial complete``, ``retry`` and ``resend``: things a person asks to be done."""

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
    else:
        how = "frozen now" if answer["frozen_now"] else "was frozen before; nothing new arrived"
        console.print(f"Revision {answer['revision']} ({answer['instances']} instances) {how}.")


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
    delivery: Annotated[str, typer.Option(help="Only the delivery with this UID.")] = "",
    as_json: Json = False,
) -> None:
    """Send dead deliveries again.

    Examples: `axial resend pacs`; `axial resend --delivery 2.25.1`
    """
    if bool(destination) == bool(delivery):
        raise CommandError("Give either the name of a destination or --delivery UID.")
    client = GatewayClient(load_settings().settings)
    answer = client.post(
        "/api/v1/deliveries/resend", destination=destination, delivery_uid=delivery
    )
    if as_json:
        print_json(answer)
    else:
        console.print(f"{answer['count']} delivery(ies) put back on the queue.")
