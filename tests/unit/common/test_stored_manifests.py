"""A manifest in the store is read as it was built, or called another version's in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from models.manifest import ManifestError, load_manifest
from services.common.manifests import ManifestMissing, StoredManifests
from services.common.store import StudyStore, manifest_key
from tests.unit.models.conftest import CATALOGUE

TEXT = (CATALOGUE / "brain-extraction" / "model.yaml").read_text()
DIGEST = "a" * 64


def stored(folder: Path, text: str) -> StoredManifests:
    store = StudyStore(folder)
    store.put(manifest_key(DIGEST), [text.encode()])
    return StoredManifests(store)


def test_what_was_built_is_read(tmp_path: Path) -> None:
    assert stored(tmp_path, TEXT).of(DIGEST).name == "brain-extraction"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("schema", "axial.model/v1", "the schema is axial.model/v1; this version reads"),
        ("schema", "axial.model/v9", "the schema is axial.model/v9; this version reads"),
        ("quantities", [{"kind": "diameter"}], "the key quantities is not part of the schema"),
    ],
)
def test_another_versions_manifest_is_called_that_and_the_remedy_is_told(
    key: str, value: object, said: str, tmp_path: Path
) -> None:
    other = yaml.safe_dump({**yaml.safe_load(TEXT), key: value})
    with pytest.raises(ManifestMissing) as caught:
        stored(tmp_path, other).of(DIGEST)
    assert "another version of Axial" in str(caught.value)
    assert said in str(caught.value)
    assert "axial models build" in str(caught.value)


def test_nothing_under_a_digest_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(ManifestMissing, match="is not in the study store"):
        stored(tmp_path, TEXT).of("b" * 64)


def test_a_file_of_another_schema_names_the_schema_and_its_line(tmp_path: Path) -> None:
    """Before all that such a manifest says beside it, which would be called wrong."""
    folder = tmp_path / "brain-extraction"
    folder.mkdir()
    (folder / "model.yaml").write_text(TEXT.replace("axial.model/v2", "axial.model/v1"))
    with pytest.raises(ManifestError) as caught:
        load_manifest(folder)
    assert caught.value.field == "schema"
    assert caught.value.line is not None
    assert "this version reads axial.model/v2" in str(caught.value)
