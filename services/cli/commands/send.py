"""``axial send`` and ``axial echo``: C-STORE and C-ECHO to the listener, or anywhere."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from services.cli.output import CommandError, console, errors, print_json, reports_errors
from services.common.transcoding import ALTERNATIVES, data_set_in
from services.dimse.errors import AssociationError
from services.dimse.files import Found, look_through
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import VERIFICATION, Association
from services.dimse.sending import SendReport, send_instances
from services.dimse.statuses import judge_status
from services.dimse.tls import PROFILES, ClientTlsFiles, TlsError, make_client_context

_IMPLICIT = "1.2.840.10008.1.2"
# Of files that were not sent, and of remarks, so many are named; `--json` names all.
_NAMED = 10

Host = Annotated[str, typer.Option(help="Where to (default: our own listener).")]
Port = Annotated[int, typer.Option(help="DICOM port there.", min=0, max=65535)]
Called = Annotated[str, typer.Option(help="AE title there.")]
Calling = Annotated[str, typer.Option(help="AE title to call as.")]
Timeout = Annotated[float, typer.Option(help="Longest wait for an answer, in seconds.", min=0.1)]
Tls = Annotated[bool, typer.Option("--tls", help="Over TLS; needs --tls-trust.")]
TlsTrust = Annotated[
    Path | None,
    typer.Option(help="PEM file of those who may have signed the receiver's certificate."),
]
TlsCertificate = Annotated[
    Path | None, typer.Option(help="Our certificate, PEM, where the receiver asks for one.")
]
TlsKey = Annotated[Path | None, typer.Option(help="Its private key, PEM without a passphrase.")]
TlsRevoked = Annotated[
    Path | None, typer.Option(help="PEM file of certificate revocation lists to heed.")
]
TlsProfile = Annotated[
    str, typer.Option(help=f"Security profile of PS3.15: {', '.join(PROFILES)}.")
]
TlsAnyName = Annotated[
    bool,
    typer.Option("--tls-any-name", help="The receiver's certificate need not name --host."),
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


@dataclass(frozen=True, slots=True)
class _Secure:
    """The options of a connection over TLS."""

    wanted: bool
    trust: Path | None
    certificate: Path | None
    key: Path | None
    revoked: Path | None
    profile: str
    any_name: bool


@reports_errors
def send(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Folders or files with DICOM files.")
    ],
    host: Host = "",
    port: Port = 0,
    called: Called = "",
    calling: Calling = "AXIAL-SEND",
    associations: Annotated[
        int, typer.Option(help="Associations to have open at once.", min=1, max=64)
    ] = 1,
    timeout: Timeout = 60.0,
    tls: Tls = False,
    tls_trust: TlsTrust = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_revoked: TlsRevoked = None,
    tls_profile: TlsProfile = "bcp195",
    tls_any_name: TlsAnyName = False,
    as_json: Json = False,
) -> None:
    """Send every DICOM file of folders by C-STORE.

    Files go out as they are. Only a receiver that takes no other uncompressed transfer syntax gets
    them written anew; nothing is ever decompressed. The exit code is 1 when a file was not taken.

    Examples: `axial send ~/study`; `axial send ~/study --host pacs --port 104 --called PACS`;
    `axial send ~/study --associations 4 --json`; `axial send ~/study --host pacs --port 2762
    --called PACS --tls --tls-trust ca.pem --tls-certificate me.pem --tls-key me.key`
    """
    secure = _Secure(
        tls, tls_trust, tls_certificate, tls_key, tls_revoked, tls_profile, tls_any_name
    )
    found = _found(paths)
    call = _call(host, port, called, calling, timeout, secure)
    with _progress(len(found.instances), shown=not as_json) as on_sent:
        report = send_instances(
            found.instances,
            call,
            associations=associations,
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
        raise typer.Exit(1)


@reports_errors
def echo(
    host: Host = "",
    port: Port = 0,
    called: Called = "",
    calling: Calling = "AXIAL-SEND",
    timeout: Timeout = 10.0,
    tls: Tls = False,
    tls_trust: TlsTrust = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_revoked: TlsRevoked = None,
    tls_profile: TlsProfile = "bcp195",
    tls_any_name: TlsAnyName = False,
    as_json: Json = False,
) -> None:
    """Ask a DICOM system whether it answers (C-ECHO).

    Examples: `axial echo`; `axial echo --host pacs --port 104 --called PACS`
    """
    secure = _Secure(
        tls, tls_trust, tls_certificate, tls_key, tls_revoked, tls_profile, tls_any_name
    )
    call = _call(host, port, called, calling, timeout, secure)
    where = f"{call.called} at {call.host}:{call.port}"
    try:
        with Association(call, [ProposedContext(1, VERIFICATION, (_IMPLICIT,))]) as association:
            if association.accepted(VERIFICATION, _IMPLICIT) is None:
                raise CommandError(f"{where} took the association, but no C-ECHO.")
            status = association.echo()
            said = association.answer.implementation_version
    except AssociationError as error:
        raise CommandError(f"{where} {error}.") from error
    if as_json:
        print_json({"status": status, "implementation": said})
    else:
        who = f" ({said})" if said else ""
        console.print(f"{where}{who} answers: status 0x{status:04X}.", highlight=False)
    if status:
        raise typer.Exit(1)


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


def _call(host: str, port: int, called: str, calling: str, timeout: float, secure: _Secure) -> Call:
    if not (host and port and called):
        # Loaded only where something of it is needed: it takes longer than sending a small study.
        from services.common.settings import load_settings

        listener = load_settings().settings.listener
        host, called = host or listener.host, called or listener.ae_title
        port = port or (listener.tls.port or 0 if secure.wanted else listener.port)
        if not port:
            raise CommandError("The listener has no port for TLS. Give --port.")
    for name, title in (("--called", called), ("--calling", calling)):
        if not title.strip() or len(title) > 16 or not title.isascii():
            raise CommandError(f"{name} '{title}' is no AE title: 1 to 16 ASCII characters.")
    context = _context(secure)
    return Call(host, port, called, calling, context, answer_timeout_s=timeout)


def _context(secure: _Secure) -> ssl.SSLContext | None:
    if not secure.wanted:
        given = (secure.trust, secure.certificate, secure.key, secure.revoked)
        if any(file is not None for file in given) or secure.any_name:
            raise CommandError("TLS options without --tls: nothing would be encrypted.")
        return None
    if secure.trust is None:
        raise CommandError("--tls needs --tls-trust: whose signature the receiver must show.")
    if secure.profile not in PROFILES:
        raise CommandError(f"--tls-profile '{secure.profile}' is none of {', '.join(PROFILES)}.")
    files = ClientTlsFiles(
        str(secure.trust),
        _text(secure.certificate),
        _text(secure.key),
        _text(secure.revoked),
        secure.profile,
        check_host_name=not secure.any_name,
    )
    try:
        return make_client_context(files)
    except TlsError as error:
        raise CommandError(str(error)) from error


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


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
    console.print(
        f"{report.sent} instance(s) sent in {report.seconds:.1f} s ({rate:.0f} MB/s).",
        highlight=False,
    )
    if set(report.statuses) - {0}:
        for status, count in sorted(report.statuses.items()):
            meaning = judge_status(status).meaning
            console.print(f"  {count} x 0x{status:04X} {meaning}", highlight=False)
    if found.others:
        console.print(f"{len(found.others)} other file(s) left out.", highlight=False)
    _name_some("remark", "yellow", report.remarks)
    _name_some("not sent", "red", (*report.failed, *found.unsendable))
    for uid in report.study_uids:
        console.print(f"Study {uid}\n  axial status {uid}\n  axial why {uid}", highlight=False)


def _name_some(what: str, colour: str, files: Sequence[tuple[Path, str]]) -> None:
    for file, text in files[:_NAMED]:
        line = f"[{colour}]{what}:[/{colour}] {escape(str(file))}: {escape(text)}"
        errors.print(line, highlight=False, soft_wrap=True)
    if len(files) > _NAMED:
        errors.print(f"... and {len(files) - _NAMED} more; --json names all.", highlight=False)
