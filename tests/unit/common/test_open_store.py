"""Which place a store's URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.settings import Settings, StoreSettings
from services.common.store import StoreError, open_store


def _settings(tmp_path: Path, **store: object) -> Settings:
    return Settings(data_dir=tmp_path, store=StoreSettings.model_validate(store))


def test_without_a_url_it_lies_in_the_data_folder(tmp_path: Path) -> None:
    assert open_store(_settings(tmp_path)).folder == tmp_path / "store"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_folder_by_path_and_by_url(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "a b"
    url = form.format(folder if form == "{}" else str(folder).replace(" ", "%20"))
    assert open_store(_settings(tmp_path, url=url)).folder == folder


@pytest.mark.parametrize("url", ["gs://bucket", "s3://", "http://server/bucket"])
def test_other_places_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreError, match="no place for a store"):
        open_store(_settings(tmp_path, url=url))


def test_bucket_lies_in_no_folder(tmp_path: Path) -> None:
    store = open_store(_settings(tmp_path, url="s3://bucket/some/prefix"))
    assert store.folder is None
    with pytest.raises(StoreError, match="no folder"):
        store.path("a/b")


@pytest.mark.parametrize("content", [None, ""])
def test_credentials_that_cannot_be_read_are_an_error_without_them(
    tmp_path: Path, content: str | None
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    files = {"access_key_id_file": secret, "secret_access_key_file": secret}
    with pytest.raises(StoreError, match="credentials"):
        open_store(_settings(tmp_path, url="s3://bucket", **files))
