"""The tables at the end: what became of every series, how long each stage took, what went where."""

from __future__ import annotations

import datetime as dt
from typing import Any

from rich.table import Table

from services.cli.output import coloured, console
from services.dimse.sending import SendReport


def show_results(studies: list[dict[str, Any]], report: SendReport) -> None:
    """Prints fates, volumes, times and deliveries of the demonstration's studies."""
    for study in studies:
        _show_fates(study)
        for job in study["jobs"]:
            if job["state"] == "superseded":
                continue
            _show_job(job)
            _show_times(study, job, report)
            _show_deliveries(job)


def _show_fates(study: dict[str, Any]) -> None:
    table = Table(title=f"\nStudy {study['study_uid']}", title_justify="left", expand=False)
    for name in ("series", "images", "model", "fate"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", overflow="fold")
    for fate in study["fate"]:
        table.add_row(
            fate["series_number"] or "-",
            str(fate["images"]),
            fate["model"],
            coloured(fate["fate"] or "under way"),
            fate["sentence"],
        )
    console.print(table)


def _show_job(job: dict[str, Any]) -> None:
    table = Table("model", "version", "measured", "value", title_justify="left")
    for item in job["measurements"]:
        table.add_row(
            job["model"],
            job["model_version"],
            f"{item['segment_label']} {item['name']}",
            _value(item),
        )
    console.print(table)


def _value(item: dict[str, Any]) -> str:
    if item["value"] is None:
        return str(item.get("why_unknown") or "not known")
    interval = f" ({item['low']:.1f} to {item['high']:.1f})" if "low" in item else ""
    return f"[bold]{item['value']:.1f} {item['unit']}[/bold]{interval}"


def _show_times(study: dict[str, Any], job: dict[str, Any], report: SendReport) -> None:
    table = Table("stage", "seconds", "of it")
    stages = {stage["stage"]: stage["seconds"] for stage in job["stages"]}
    networks = {n: s for n, s in stages.items() if n.startswith("infer.network")}
    table.add_row("receive", f"{report.seconds:.2f}", f"{report.sent} instances")
    # Of the study only what the job's revision holds counts: the rest may have arrived since.
    revision = next(r for r in study["revisions"] if r["number"] == job["revision"])
    waited = _between(revision["last_received_at"], revision["frozen_at"])
    if revision["trigger"] == "quiet":
        table.add_row("quiet period", f"{waited:.2f}", "configured; `axial complete` skips it")
    else:
        table.add_row("until complete", f"{waited:.2f}", revision["trigger"])
    table.add_row("begin", f"{_between(revision['frozen_at'], _started(job, 'select')):.2f}", "")
    for name in ("select", "load", "infer", "report", "deliver"):
        if name in stages:
            detail = ""
            if name == "infer":
                parts = [f"{key.rsplit(':', 1)[1]} {value:.2f}" for key, value in networks.items()]
                detail = "networks: " + ", ".join(parts)
            table.add_row(name, f"{stages[name]:.2f}", detail)
    arrived = [d["delivered_at"] for d in job["deliveries"] if d["delivered_at"]]
    if arrived and job["ended_at"]:
        at_pacs = max(_between(job["ended_at"], when) for when in arrived)
        table.add_row("until stored at the PACS", f"{max(0.0, at_pacs):.2f}", "")
        total = max(_between(revision["last_received_at"], when) for when in arrived)
        rest = total - waited - sum(networks.values())
        table.add_row("[bold]last image to stored result[/bold]", f"[bold]{total:.2f}[/bold]", "")
        table.add_row("of it neither network nor waiting for images", f"{rest:.2f}", "")
    console.print(table)


def _show_deliveries(job: dict[str, Any]) -> None:
    table = Table("delivered to", "what", "state", "attempts", "SOP instance UID")
    for item in job["deliveries"]:
        table.add_row(
            item["destination"],
            item["kind"],
            coloured(item["state"]),
            str(item["attempts"]),
            item["sop_instance_uid"],
        )
    console.print(table)


def _started(job: dict[str, Any], stage: str) -> str:
    return next((s["started_at"] for s in job["stages"] if s["stage"] == stage), job["created_at"])


def _between(earlier: str, later: str) -> float:
    return (dt.datetime.fromisoformat(later) - dt.datetime.fromisoformat(earlier)).total_seconds()
