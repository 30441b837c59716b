"""Where files of a model are published: a repository at a commit, an address, a folder."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, Protocol
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from models.manifest.base import Name, Part, Sha256

__all__ = ["FolderSource", "GitFileSource", "PublishedFile", "PublishedSource", "UrlSource"]

# Files of public repositories at a commit, without git.
_RAW = "https://raw.githubusercontent.com"
# So large a file is no model's.
_LARGEST = 64 << 30


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if PurePosixPath(path).is_absolute() or ".." in parts or not parts:
        raise ValueError(f"{path} is no path inside the source")
    return path


def _safe_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
        raise ValueError(f"{url} is no plain https address")
    return url


Inside = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_inside)]


class PublishedFile(Part):
    """A file by its path in the source; its bytes and SHA-256 are what makes it this file."""

    path: Inside
    bytes: Annotated[int, Field(ge=1, le=_LARGEST)]
    sha256: Sha256


Files = Annotated[tuple[PublishedFile, ...], Field(min_length=1, strict=False)]


class GitFileSource(Part):
    """Files of a public repository on GitHub at a commit, fetched one by one."""

    kind: Literal["git-file"]
    name: Name
    repository: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")]
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    licence: Annotated[str, Field(min_length=1)]
    files: Files

    def address(self, path: str) -> str:
        """Return where a file is to be had."""
        return f"{_RAW}/{self.repository}/{self.commit}/{quote(path)}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that may answer."""
        return ("raw.githubusercontent.com",)


class UrlSource(Part):
    """Files below an address.

    Attributes:
        url: https; a file's path is put behind it, or it is the address of the one file.
        also_from: hosts that an answer may lead to (a provider's storage).
    """

    kind: Literal["url"]
    name: Name
    url: Annotated[str, AfterValidator(_safe_address)]
    also_from: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+$")], ...],
        Field(strict=False),
    ] = ()
    licence: Annotated[str, Field(min_length=1)]
    files: Files

    def address(self, path: str) -> str:
        """Return where a file is to be had."""
        return self.url + quote(path) if self.url.endswith("/") else self.url

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that may answer."""
        return (urlsplit(self.url).hostname or "", *self.also_from)


class FolderSource(Part):
    """Files in a folder of this machine: an institution's own weights."""

    kind: Literal["folder"]
    name: Name
    folder: Annotated[str, Field(min_length=1)]
    licence: Annotated[str, Field(min_length=1)]
    files: Files


class PublishedSource(Protocol):
    """What fetching over the network needs to know."""

    @property
    def name(self) -> str: ...
    @property
    def hosts(self) -> tuple[str, ...]: ...
    def address(self, path: str) -> str: ...
