"""Opening the study store that the settings name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.common.settings import Settings
from services.common.store.errors import StoreError
from services.common.store.study_store import StudyStore


def open_store(settings: Settings) -> StudyStore:
    """The study store of ``store.url``. Nothing is asked of a server yet.

    Raises:
        StoreError: the URL is of no kind that Axial knows, or credentials cannot be read.
    """
    chosen = settings.store
    if chosen.url is None:
        return StudyStore(settings.data_dir / "store")
    parts = urlsplit(chosen.url)
    if parts.scheme in {"", "file"}:
        return StudyStore(Path(unquote(parts.path)) if parts.scheme else Path(chosen.url))
    if parts.scheme != "s3" or not parts.netloc:
        raise StoreError(
            f"store.url '{chosen.url}' is no place for a store; use a folder or s3://bucket/prefix."
        )
    # Only now: a store in a folder has no use for a client with its threads and TLS.
    from services.common.store.cache import Cache
    from services.common.store.s3 import S3, Bucket

    bucket = Bucket(
        name=parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=chosen.endpoint,
        region=chosen.region,
        credentials=_credentials(chosen.access_key_id_file, chosen.secret_access_key_file),
        timeout_s=chosen.timeout_s,
        transfers=chosen.transfers,
    )
    return StudyStore(S3(bucket, Cache(settings.resolved_cache_dir, chosen.cache_bytes)))


def _credentials(id_file: Path | None, secret_file: Path | None) -> tuple[str, str] | None:
    if id_file is None or secret_file is None:
        return None
    return _first_line(id_file), _first_line(secret_file)


def _first_line(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"The store's credentials {file} cannot be read.") from error
    if not text:
        raise StoreError(f"The store's credentials {file} are empty.")
    return text
