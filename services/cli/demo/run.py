"""The demonstration from the first to the last step."""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.status import Status

from models.manifest import load_catalogue
from services.cli.commands.models import build_one
from services.cli.demo.head_study import write_demo_study
from services.cli.demo.pictures import write_pictures
from services.cli.demo.tables import show_results
from services.cli.gateway_client import GatewayClient
from services.cli.output import CommandError, console
from services.cli.stack import running_state
from services.cli.stack.detached import DetachedStack
from services.cli.stack.local_settings import free_port, local_settings, write_settings
from services.common.settings import Settings, load_settings
from services.dimse.files import FoundInstance, find_instances
from services.dimse.line import Call
from services.dimse.sending import SendReport, send_instances

DEFAULT_FOLDER = Path("build/demo")
PACS_NAME = "stand-in-pacs"
QUIET_PERIOD_S = 1.0
LOOK_EVERY_S = 0.05
DEADLINE_S = 600.0
_SENDER = "AXIAL-DEMO"
# What is shown while a study is worked on: job state -> what comes next.
_NEXT = {
    "selected": "loading and inferring",
    "inferred": "making SEG and SR",
    "reported": "handing to delivery",
}


@dataclass(frozen=True, slots=True)
class DemoStack:
    """The demonstration's stack and where it keeps things."""

    folder: Path
    settings_file: Path
    settings: Settings
    stack: DetachedStack

    @property
    def pacs(self) -> Path:
        """What the stand-in PACS keeps."""
        return self.folder / "pacs"


def run_demo(study: Path | None, *, keep: bool, folder: Path = DEFAULT_FOLDER) -> None:
    """Builds, starts, sends, waits, shows; raises `CommandError` when a stage failed."""
    begun = time.monotonic()
    demo = _prepare(folder, keep=keep)
    for name in _catalogue(demo.settings):
        with _step(f"model {name}") as step:
            record = build_one(demo.settings, name, "", None, quiet=False).record
            step.say(f"{record.target}, {record.precision}, digest {record.digest[:12]}")
    source = study or demo.folder / "study"
    with _step("study") as step:
        if study is None and not any(source.glob("*.dcm")):
            write_demo_study(source, Path("build/cache"))
        instances = find_instances(source)
        if not instances:
            raise CommandError(f"{source} holds no DICOM file.")
        step.say(f"{len(instances)} instances in {source}")
    try:
        with _step("stack") as step:
            seconds = demo.stack.start()
            step.say(f"Triton, four services and a stand-in PACS ready after {seconds:.1f} s")
        report = _send(demo, instances)
        studies = [_wait_for(demo, uid) for uid in report.study_uids]
        _finish(demo, studies, report, source, must_process=study is None)
        console.print(f"\nAll in {time.monotonic() - begun:.1f} s.", highlight=False)
    except BaseException:
        demo.stack.stop()
        raise
    if keep:
        _say_how_to_look(demo, report.study_uids)
    else:
        demo.stack.stop()


def _prepare(folder: Path, *, keep: bool) -> DemoStack:
    settings_file = folder / "axial.yaml"
    if settings_file.exists():
        earlier = load_settings(settings_file, {}).settings
        if running_state(earlier) is not None:
            raise CommandError(
                "A demonstration is still running. "
                f"Stop it: .venv/bin/axial --config {settings_file} down"
            )
    for left_over in ("data", "pacs", "results"):
        shutil.rmtree(folder / left_over, ignore_errors=True)
    pacs_port = free_port()
    tree = local_settings(
        folder,
        catalogue=Path("models/catalogue"),
        repository=Path("build/models"),
        any_ports=False,
        listener={
            "quiet_period_s": QUIET_PERIOD_S,
            "peers": [{"name": "demo", "ae_title": _SENDER, "host": "127.0.0.1"}],
        },
        telemetry={"traces": "file"},
    )
    tree["reporting"]["destinations"] = [
        {"name": PACS_NAME, "ae_title": "PACS", "host": "127.0.0.1", "port": pacs_port}
    ]
    write_settings(settings_file, tree)
    settings = load_settings(settings_file).settings
    stack = DetachedStack(settings_file, settings, folder / "pacs", outlives=keep)
    return DemoStack(folder, settings_file, settings, stack)


def _catalogue(settings: Settings) -> list[str]:
    return [manifest.identity.name for manifest in load_catalogue(settings.catalogue_dir)]


def _send(demo: DemoStack, instances: list[FoundInstance]) -> SendReport:
    listener = demo.settings.listener
    sent = 0
    with _step("send") as step:

        def on_sent() -> None:
            nonlocal sent
            sent += 1
            step.show(f"{sent} of {len(instances)} instances")

        report = send_instances(
            instances,
            Call(listener.host, listener.port, listener.ae_title, _SENDER),
            on_sent=on_sent,
        )
        if report.failed:
            file, problem = report.failed[0]
            raise CommandError(
                f"{len(report.failed)} instances were not taken, the first: {file}: {problem}"
            )
        step.say(f"{report.sent} instances by C-STORE in {report.seconds:.1f} s")
    return report


def _wait_for(demo: DemoStack, study_uid: str) -> dict[str, Any]:
    """Follows a study until nothing is left to do; says each change."""
    client = GatewayClient(demo.settings)
    deadline = time.monotonic() + DEADLINE_S
    doing = "not received"
    with _step("work") as step:
        while time.monotonic() < deadline:
            study = client.get(f"/api/v1/studies/{study_uid}")
            if study is not None:
                doing = _doing(study)
                step.show(doing)
                if study["state"] == "done":
                    step.say(_ended(study))
                    return study
            time.sleep(LOOK_EVERY_S)
    raise CommandError(f"Study {study_uid} is not done after {DEADLINE_S:.0f} s: {doing}.")


def _ended(study: dict[str, Any]) -> str:
    deliveries = [item for job in study["jobs"] for item in job["deliveries"]]
    delivered = sum(item["state"] == "delivered" for item in deliveries)
    fates = ", ".join(f"{count} {fate}" for fate, count in study["fates"].items())
    return f"series: {fates}; {delivered} of {len(deliveries)} results delivered"


def _doing(study: dict[str, Any]) -> str:
    if study["state"] == "receiving":
        return f"waiting for the quiet period ({QUIET_PERIOD_S:g} s)"
    states = [job["state"] for job in study["jobs"]]
    for state, words in _NEXT.items():
        if state in states:
            return words
    return "delivering" if study["state"] == "delivering" else study["state"]


def _finish(
    demo: DemoStack,
    studies: list[dict[str, Any]],
    report: SendReport,
    folder: Path,
    *,
    must_process: bool,
) -> None:
    results = demo.folder / "results"
    pictures = write_pictures(studies, folder, demo.pacs / "instances", results)
    show_results(studies, report)
    for title, files in pictures.items():
        console.print(f"\n{title}", highlight=False)
        for file in files:
            console.print(f"  {file}", highlight=False)
    problems = _problems(studies, must_process=must_process)
    if problems:
        raise CommandError("The demonstration failed: " + " ".join(problems))


def _problems(studies: list[dict[str, Any]], *, must_process: bool) -> list[str]:
    problems: list[str] = []
    for study in studies:
        for fate in study["fate"]:
            if fate["fate"] in ("failed", "withheld"):
                problems.append(fate["sentence"])
        for job in study["jobs"]:
            for item in job["deliveries"]:
                if item["state"] != "delivered" and job["state"] != "superseded":
                    problems.append(
                        f"{item['kind']} to {item['destination']} is {item['state']}: "
                        f"{item['last_error']}"
                    )
    if must_process and not any(j["state"] == "processed" for s in studies for j in s["jobs"]):
        problems.append("No series was processed.")
    return problems


def _say_how_to_look(demo: DemoStack, study_uids: tuple[str, ...]) -> None:
    axial = f".venv/bin/axial --config {demo.settings_file}"
    gateway = demo.settings.gateway
    console.print(
        f"\nThe stack keeps running.\n  look:  {axial} status {study_uids[0]}\n"
        f"         {axial} why {study_uids[0]}\n"
        f"         http://{gateway.host}:{gateway.port}/docs\n"
        f"  logs:  {demo.settings.data_dir / 'logs'}\n  stop:  {axial} down",
        highlight=False,
        soft_wrap=True,
    )


class _Step:
    """A step of the demonstration: what it is doing, and what came of it."""

    def __init__(self, name: str, status: Status) -> None:
        self._name = name
        self._status = status
        self.said: list[str] = []

    def show(self, doing: str) -> None:
        """Says what is being done now (on a terminal, in place)."""
        self._status.update(f"{self._name}: {doing}")

    def say(self, came_of_it: str) -> None:
        """Adds to the line that remains."""
        self.said.append(came_of_it)


@contextmanager
def _step(name: str) -> Generator[_Step]:
    begun = time.monotonic()
    with console.status(name) as status:
        step = _Step(name, status)
        try:
            yield step
        except BaseException:
            console.print(f"[red]✗[/red] {name}", highlight=False)
            raise
    console.print(
        f"[green]✓[/green] {name:<24} {time.monotonic() - begun:6.1f} s  {'; '.join(step.said)}",
        highlight=False,
        soft_wrap=True,
    )
