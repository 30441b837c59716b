"""The conformance statement's part on STOW-RS (PS3.18), from the tables that it answers by."""

from __future__ import annotations

from services.common.settings import StowSettings
from services.listener.stow.progress import LEAST_BYTES
from services.listener.stow.response import JSON_TYPE, REASON_MEANINGS, XML_TYPE

# Statuses and when they are given; the tests of the door provoke each of them.
STATUSES: tuple[tuple[int, str], ...] = (
    (200, "every instance is stored"),
    (202, "some instances are stored; those that are not have their reasons in the answer"),
    (400, "the body is no multipart body and nothing of it was stored, or the study is no UID"),
    (401, "`listener.stow.tokens` are set, and the request carries none of them"),
    (403, "no peer with the verb `stow` is configured for the address (and certificate)"),
    (404, "another path"),
    (405, "another method than POST"),
    (406, "the answer is wanted in another media type"),
    (
        408,
        f"less than {LEAST_BYTES >> 10} KiB of the body came, and not its end, while it was waited "
        "for during `listener.stow.idle_timeout_s`",
    ),
    (
        409,
        "no instance is stored, and the disk is not the reason; the reasons are in the answer. So "
        "are instances answered that are larger than `listener.stow.max_instance_bytes`: sending "
        "them again cannot help",
    ),
    (413, "the body is larger than `listener.stow.max_request_bytes`"),
    (415, "the body is not of the type above, or is encoded"),
    (
        503,
        "too many requests (in all, or of the peer), or a disk that is nearly full; Retry-After",
    ),
)

_STOW = """\
### STOW-RS (PS3.18 10.5)

Store Instances is offered over HTTP on `listener.stow.port` (not opened unless it is set), by HTTPS
with client certificates where `listener.stow.tls` is set. Of DICOMweb, nothing else is.

| | |
|---|---|
| Resources | `POST /studies`, `POST /studies/{{study}}` |
| Body | `multipart/related; type="application/dicom"`; each part a file by PS3.10. A part's \
`transfer-syntax` must be the file's. Metadata with bulk data (JSON, XML) is not taken |
| SOP classes, transfer syntaxes | those of the C-STORE service above |
| Answer | Store Instances Response Module as `{json}` (default) or `{xml}`; RetrieveURL where \
`listener.stow.public_url` is set |
| Who may store | peers whose `addresses` and, where pinned, certificates match and whose `verbs` \
have `stow`; forwarding headers are not believed |
| Requests at once | `listener.stow.max_requests`, default {requests} |
| Largest instance, request | `listener.stow.max_instance_bytes`, default {instance}; \
`listener.stow.max_request_bytes`, default {request} |

An instance is answered for when it is synced to disk, as with C-STORE; each for itself, so that one
that is not stored fails no other. The data set is kept as sent; the file meta information is ours.
A body is read no faster than it is written, and memory does not grow with it. When the connection
breaks, the instances that came whole stay stored.

| status | when |
|---|---|
{statuses}

| failure reason | when |
|---|---|
{reasons}
"""


def render_stow() -> str:
    """The section as Markdown."""
    fields = StowSettings.model_fields
    return _STOW.format(
        json=JSON_TYPE,
        xml=XML_TYPE,
        requests=fields["max_requests"].default,
        instance=_gibibytes(fields["max_instance_bytes"].default),
        request=_gibibytes(fields["max_request_bytes"].default),
        statuses="\n".join(f"| {status} | {when} |" for status, when in STATUSES),
        reasons="\n".join(
            f"| {reason:04X} | {meaning} |" for reason, meaning in REASON_MEANINGS.items()
        ),
    )


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:g} GiB"
