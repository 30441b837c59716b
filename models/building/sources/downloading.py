"""One file over https, bounded and resumable."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from models.building.errors import FetchError

__all__ = ["download", "download_unpinned"]

_ATTEMPTS: Final = 4
_WAIT_S: Final = 0.5
_TIMEOUT_S: Final = 60.0
_PIECE: Final = 1 << 16
_REDIRECTS: Final = 5
_TOO_MANY: Final = 429


class _ForGoodError(FetchError):
    """An answer that another try would not change."""


def download(
    url: str,
    hosts: Collection[str],
    size: int,
    partly: Path,
    arrived: Callable[[int], None],
) -> None:
    """Fetch a file of known size into `partly`, beginning where an earlier try ended.

    Redirects are followed to the listed hosts only, and never more bytes are written than `size`.
    A connection that breaks is tried again a few times.

    Args:
        url: where it is; https.
        hosts: who may answer.
        size: the file's bytes.
        partly: where to; what lies there counts as the file's beginning.
        arrived: told of the bytes that are there.

    Raises:
        FetchError: with the reason, as a part of a sentence's end.
    """
    opener = urllib.request.build_opener(_Redirects(hosts))
    _require_host(url, hosts)
    for attempt in range(_ATTEMPTS):
        try:
            _once(opener, url, size, partly, arrived)
        except _ForGoodError:
            raise
        except (FetchError, OSError, http.client.HTTPException) as error:
            if attempt + 1 == _ATTEMPTS:
                raise FetchError(f"{_said(error)}.") from error
            # Not a wait for something to happen: a server that refuses is given a pause.
            time.sleep(_WAIT_S * attempt)
        else:
            return


def download_unpinned(url: str, hosts: Collection[str], limit: int, partly: Path) -> None:
    """Fetch a file whose size and hash nobody has written down yet, whole and in one go.

    Args:
        url: where it is; https.
        hosts: who may answer.
        limit: more bytes than this are refused.
        partly: where to.

    Raises:
        FetchError: as for `download`.
    """
    opener = urllib.request.build_opener(_Redirects(hosts))
    _require_host(url, hosts)
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was looked at
    try:
        with _opened(opener, request) as answer, partly.open("wb") as out:
            said = int(answer.headers.get("Content-Length") or 0)
            there = 0
            while there <= limit and said <= limit and (piece := answer.read(_PIECE)):
                there += len(piece)
                out.write(piece)
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"{_said(error)}.") from error
    if max(there, said) > limit:
        raise FetchError(f"the server has more than the {limit} bytes that are allowed.")
    if there < said:
        raise FetchError(f"the connection ended after {there} of {said} bytes.")


def _once(
    opener: urllib.request.OpenerDirector,
    url: str,
    size: int,
    partly: Path,
    arrived: Callable[[int], None],
) -> None:
    there = partly.stat().st_size if partly.is_file() else 0
    if there > size:
        partly.unlink()
        there = 0
    if there == size:
        return
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was looked at
    if there:
        request.add_header("Range", f"bytes={there}-")
    with _opened(opener, request) as answer:
        if there and not _goes_on(answer, there, size):
            there = 0
        _require_size(answer, size - there)
        with partly.open("ab" if there else "wb") as out:
            while piece := answer.read(min(_PIECE, size - there + 1)):
                there += len(piece)
                if there > size:
                    break
                out.write(piece)
                arrived(there)
    if there > size:
        partly.unlink()
        raise _ForGoodError(f"the server sends more than the {size} bytes that are expected.")
    if there < size:
        raise FetchError(f"the connection ended after {there} of {size} bytes")


def _opened(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> Any:
    try:
        return opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500 or error.code == _TOO_MANY:
            raise FetchError(f"HTTP {error.code}") from error
        raise _ForGoodError(f"HTTP {error.code}.") from error


def _goes_on(answer: Any, there: int, size: int) -> bool:
    """Return whether the server goes on where we ended; one that cannot sends all again."""
    said = answer.headers.get("Content-Range", "")
    return (
        answer.status == http.client.PARTIAL_CONTENT and said == f"bytes {there}-{size - 1}/{size}"
    )


def _require_size(answer: Any, rest: int) -> None:
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise _ForGoodError("the server sends it compressed, which was not asked for.")
    said = answer.headers.get("Content-Length")
    if said is not None and int(said) != rest:
        raise _ForGoodError(f"the server has {said} bytes, expected are {rest}.")


def _require_host(url: str, hosts: Collection[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.hostname not in hosts:
        raise _ForGoodError(
            f"it leads to {parts.scheme}://{parts.hostname}, and only https from "
            f"{' or '.join(hosts)} may answer. List the host if it is the provider's (also_from)."
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to listed hosts only."""

    max_redirections = _REDIRECTS

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = hosts

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See the base class."""
        _require_host(newurl, self._hosts)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return str(reason).rstrip(".")
