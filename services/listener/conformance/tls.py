"""The conformance statement's part on secure transport, from `services.dimse.tls`."""

from __future__ import annotations

from services.common.settings import TlsSettings
from services.dimse.tls import PROFILES

# The port registered for DICOM over TLS (PS3.15 annex B).
REGISTERED_PORT = 2762

_TLS = """\
### Secure transport (PS3.15 annex B)

Associations over TLS are accepted on a port of their own, `listener.tls.port` (registered:
{port}; not opened unless it is set). Both sides show certificates: one that is not signed by
`listener.tls.trusted_certificates`, is out of date, or is on `listener.tls.revocation_list` gets no
connection. A peer can be held to TLS (`tls_required`), to a subject's common name, or to one
certificate by its SHA-256 fingerprint. Files that change are in force from the next connection on;
files that cannot be used leave the ones before them in force and are reported
(`tls_files_refused`). Sessions are not resumed or renegotiated. A handshake has
`listener.tls.handshake_timeout_s` (default {handshake:g} s) in all.

| `listener.tls.profile` | profile | section | versions | cipher suites of TLS 1.2 |
|---|---|---|---|---|
{profiles}

Default: `{default}`. TLS 1.3 has suites of its own. DHE suites use the group ffdhe3072 (RFC 7919).
"""


def render_tls() -> str:
    """The section as Markdown."""
    fields = TlsSettings.model_fields
    rows = (
        f"| `{key}` | {profile.name} | {profile.section} "
        f"| {'1.2, 1.3' if profile.tls_1_3 else '1.2'} | {', '.join(profile.suites)} |"
        for key, profile in PROFILES.items()
    )
    return _TLS.format(
        port=REGISTERED_PORT,
        handshake=fields["handshake_timeout_s"].default,
        profiles="\n".join(rows),
        default=fields["profile"].default,
    )
