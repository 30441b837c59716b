"""Whom `axial send` and `axial echo` call: the options that both have, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from services.cli.output import CommandError
from services.cli.plain import Option
from services.dimse.line import Call

if TYPE_CHECKING:
    import ssl

TIMEOUT_HELP = "Longest wait for an answer, in seconds."
_PROFILES = "bcp195, bcp195_non_downgrading, bcp195_extended"


@dataclass(frozen=True)
class Receiver:
    """The options."""

    host: Annotated[str, Option("Where to (default: our own listener).")] = ""
    port: Annotated[int, Option("DICOM port there.", minimum=0, maximum=65535)] = 0
    called: Annotated[str, Option("AE title there.")] = ""
    calling: Annotated[str, Option("AE title to call as.")] = "AXIAL-SEND"
    timeout: Annotated[float, Option(TIMEOUT_HELP, minimum=0.1)] = 60.0
    tls: Annotated[bool, Option("Over TLS; needs --tls-trust.")] = False
    tls_trust: Annotated[
        Path | None,
        Option("PEM file of those who may have signed the receiver's certificate."),
    ] = None
    tls_certificate: Annotated[
        Path | None, Option("Our certificate, PEM, where the receiver asks for one.")
    ] = None
    tls_key: Annotated[Path | None, Option("Its private key, PEM without a passphrase.")] = None
    tls_revoked: Annotated[
        Path | None, Option("PEM file of certificate revocation lists to heed.")
    ] = None
    tls_profile: Annotated[str, Option(f"Security profile of PS3.15: {_PROFILES}.")] = "bcp195"
    tls_any_name: Annotated[bool, Option("The receiver's certificate need not name --host.")] = (
        False
    )

    @property
    def is_our_listener(self) -> bool:
        """Whether the called system is our own listener, by the settings."""
        return not (self.host or self.port or self.called)

    def call(self) -> Call:
        """Whom to call, and how; what is not given is taken from the settings of our listener.

        Raises:
            CommandError: the options contradict each other, or a file cannot be used.
        """
        host, port, called = self.host, self.port, self.called
        if not (host and port and called):
            # Loaded only where something of it is needed: it takes longer than sending a small
            # study.
            from services.common.settings import load_settings

            listener = load_settings().settings.listener
            host, called = host or listener.host, called or listener.ae_title
            port = port or (listener.tls.port or 0 if self.tls else listener.port)
            if not port:
                raise CommandError("The listener has no port for TLS. Give --port.")
        for name, title in (("--called", called), ("--calling", self.calling)):
            if not title.strip() or len(title) > 16 or not title.isascii():
                raise CommandError(f"{name} '{title}' is no AE title: 1 to 16 ASCII characters.")
        return Call(
            host, port, called, self.calling, self._context(), answer_timeout_s=self.timeout
        )

    def _context(self) -> ssl.SSLContext | None:
        if not self.tls:
            given = (self.tls_trust, self.tls_certificate, self.tls_key, self.tls_revoked)
            if any(file is not None for file in given) or self.tls_any_name:
                raise CommandError("TLS options without --tls: nothing would be encrypted.")
            return None
        from services.dimse.tls import PROFILES, ClientTlsFiles, TlsError, make_client_context

        if self.tls_trust is None:
            raise CommandError("--tls needs --tls-trust: whose signature the receiver must show.")
        if self.tls_profile not in PROFILES:
            raise CommandError(f"--tls-profile '{self.tls_profile}' is none of {_PROFILES}.")
        files = ClientTlsFiles(
            str(self.tls_trust),
            _text(self.tls_certificate),
            _text(self.tls_key),
            _text(self.tls_revoked),
            self.tls_profile,
            check_host_name=not self.tls_any_name,
        )
        try:
            return make_client_context(files)
        except TlsError as error:
            raise CommandError(str(error)) from error


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
