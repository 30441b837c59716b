"""The manifests of models as they were built: in the study store, under their digest.

A manifest is immutable under its digest. A job reads the one of its build, whatever lies in the
catalogue today.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from models.manifest import Manifest, ManifestError, load_manifest_text
from services.common.errors import AxialError
from services.common.store import ObjectMissing, StudyStore, manifest_key

# A manifest of a hundred segments takes about a megabyte as objects.
_KEPT = 32


class ManifestMissing(AxialError):
    """No manifest that this version reads lies in the store under this digest."""


class StoredManifests:
    """Reads and writes the manifests of a store. May be used from several threads.

    Args:
        store: the study store.
    """

    def __init__(self, store: StudyStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read: OrderedDict[str, Manifest] = OrderedDict()

    def of(self, digest: str) -> Manifest:
        """The manifest of a build.

        Args:
            digest: of the build, 64 hexadecimal digits.

        Raises:
            ManifestMissing: no manifest was ever put under the digest, or another version's.
            StoreError: the store does not answer.
        """
        with self._lock:
            known = self._read.get(digest)
            if known is not None:
                self._read.move_to_end(digest)
                return known
        key = manifest_key(digest)
        try:
            text = self._store.read(key).decode("utf-8")
        except ObjectMissing as error:
            raise ManifestMissing(
                f"The manifest of build {digest[:12]} is not in the study store. Serve the build "
                "again (`axial models build`), or run `axial retry` for the study."
            ) from error
        try:
            manifest = load_manifest_text(text, key)
        except ManifestError as error:
            # Nothing but a build writes here: what is not understood is another version's.
            raise ManifestMissing(
                f"The manifest of build {digest[:12]} was written by another version of Axial: "
                f"{error.problem} Serve the model again with this version (`axial models build`), "
                "and run `axial retry` for the study."
            ) from error
        with self._lock:
            self._read[digest] = manifest
            while len(self._read) > _KEPT:
                self._read.popitem(last=False)
        return manifest

    def put(self, digest: str, text: str) -> None:
        """Keeps a build's manifest; a manifest that is there already stays as it is.

        What differs between two manifests of one digest (a description) decides nothing.

        Args:
            digest: of the build.
            text: the manifest as it was built (YAML).

        Raises:
            StoreError: the store refuses the manifest.
        """
        key = manifest_key(digest)
        if not self._store.exists(key):
            self._store.put(key, [text.encode("utf-8")])
