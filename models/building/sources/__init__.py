"""Files of a model from where they were published: one cache, an optional mirror, pinned hashes."""

from models.building.sources.described import FolderSource, GitFileSource, PublishedFile, UrlSource
from models.building.sources.fetching import Arrived, fetch_file, fetch_files, pin_file

__all__ = [
    "Arrived",
    "FolderSource",
    "GitFileSource",
    "PublishedFile",
    "UrlSource",
    "fetch_file",
    "fetch_files",
    "pin_file",
]
