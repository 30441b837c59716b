"""``axial send``: C-STORE to the listener, or anywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from services.cli.calling import Receiver
from services.cli.output import CommandError, print_json, reports_errors, say
from services.cli.plain import Argument, Option
from services.common.transcoding import ALTERNATIVES, data_set_in
from services.dimse.files import Found, look_through
from services.dimse.sending import SendReport, send_instances
from services.dimse.statuses import judge_status

# Of files that were not sent, and of remarks, so many are named; `--json` names all.
_NAMED = 10
# To our own listener: so many associations where so many files are sent. It knows which series an
# association still sends; another receiver may take a study for complete when the first of several
# associations ends, and hears of it over one unless it is told otherwise.
_OWN_ASSOCIATIONS, _MANY_FILES = 4, 100


@reports_errors
def send(
    paths: Annotated[list[Path], Argument("Folders or files with DICOM files.", metavar="PATH")],
    receiver: Receiver,
    associations: Annotated[
        int | None,
        Option(
            "Associations to have open at once (default: 1; 4 for many files to our listener).",
            minimum=1,
            maximum=64,
        ),
    ] = None,
    as_json: Annotated[bool, Option("For machines.", "--json")] = False,
) -> None:
    """Send every DICOM file of folders by C-STORE.

    Files go out as they are. Only a receiver that takes no other uncompressed transfer syntax gets
    them written anew; nothing is ever decompressed. The exit code is 1 when a file was not taken.

    Examples: `axial send ~/study`; `axial send ~/study --host pacs --port 104 --called PACS`;
    `axial send ~/study --associations 4 --json`; `axial send ~/study --host pacs --port 2762
    --called PACS --tls --tls-trust ca.pem --tls-certificate me.pem --tls-key me.key`
    """
    found = _found(paths)
    call = receiver.call()
    with _progress(len(found.instances), shown=not as_json) as on_sent:
        report = send_instances(
            found.instances,
            call,
            associations=associations or _usual(receiver, len(found.instances)),
            alternatives=ALTERNATIVES,
            convert=data_set_in,
            on_sent=on_sent,
        )
    data_bytes = sum(instance.data_bytes for instance in found.instances)
    if as_json:
        print_json(_as_json(report, found, data_bytes))
    else:
        _tell(report, found, data_bytes)
    if report.failed or found.unsendable:
        raise SystemExit(1)


def _usual(receiver: Receiver, files: int) -> int:
    return _OWN_ASSOCIATIONS if receiver.is_our_listener and files >= _MANY_FILES else 1


def _found(paths: Sequence[Path]) -> Found:
    for path in paths:
        if not path.exists():
            raise CommandError(f"{path} does not exist.")
    looked = [look_through(path) for path in paths]
    # A file may lie below two of the paths.
    instances = {i.file.absolute(): i for each in looked for i in each.instances}
    found = Found(
        tuple(instances.values()),
        tuple(dict(pair for each in looked for pair in each.unsendable).items()),
        tuple(dict.fromkeys(file for each in looked for file in each.others)),
    )
    if not found.instances:
        named = ", ".join(map(str, paths))
        why = "; ".join(f"{file}: {problem}" for file, problem in found.unsendable[:_NAMED])
        raise CommandError(f"{named} holds no DICOM file{' to send' if why else ''}. {why}".strip())
    return found


@contextmanager
def _progress(total: int, *, shown: bool) -> Generator[Callable[[], None]]:
    """A bar on a terminal; what to call for each file."""
    if not shown or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from services.cli.output import errors

    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("sending", total=total)
        yield lambda: progress.advance(task)


def _as_json(report: SendReport, found: Found, data_bytes: int) -> dict[str, object]:
    failed = [*report.failed, *found.unsendable]
    return {
        "sent": report.sent,
        "failed": [{"file": str(file), "problem": problem} for file, problem in failed],
        "remarks": [{"file": str(file), "remark": remark} for file, remark in report.remarks],
        "left_out": [str(file) for file in found.others],
        "statuses": [
            {"status": f"0x{status:04X}", "meaning": judge_status(status).meaning, "count": count}
            for status, count in sorted(report.statuses.items())
        ],
        "associations": report.associations,
        "bytes": data_bytes,
        "seconds": report.seconds,
        "studies": list(report.study_uids),
    }


def _tell(report: SendReport, found: Found, data_bytes: int) -> None:
    rate = data_bytes / 1e6 / max(report.seconds, 1e-6)
    say(f"{report.sent} instance(s) sent in {report.seconds:.1f} s ({rate:.0f} MB/s).")
    if set(report.statuses) - {0}:
        for status, count in sorted(report.statuses.items()):
            say(f"  {count} x 0x{status:04X} {judge_status(status).meaning}")
    if found.others:
        say(f"{len(found.others)} other file(s) left out.")
    _name_some("remark", "yellow", report.remarks)
    _name_some("not sent", "red", (*report.failed, *found.unsendable))
    for uid in report.study_uids:
        say(f"Study {uid}\n  axial status {uid}\n  axial why {uid}")


def _name_some(what: str, colour: str, files: Sequence[tuple[Path, str]]) -> None:
    if not files:
        return
    from rich.markup import escape

    from services.cli.output import errors

    for file, text in files[:_NAMED]:
        line = f"[{colour}]{what}:[/{colour}] {escape(str(file))}: {escape(text)}"
        errors.print(line, highlight=False, soft_wrap=True)
    if len(files) > _NAMED:
        errors.print(f"... and {len(files) - _NAMED} more; --json names all.", highlight=False)
