"""A manifest that cannot work is refused with file, line, field and remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from models.manifest import (
    Manifest,
    ManifestError,
    load_catalogue,
    load_manifest,
    load_manifest_text,
)

Write = Callable[[Mapping[str, Any] | str], Path]
CATALOGUE = Path(__file__).resolve().parents[3] / "models" / "catalogue"
REAL = (CATALOGUE / "brain-extraction" / "model.yaml").read_text()


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def test_every_manifest_of_the_catalogue_loads() -> None:
    names = [manifest.name for manifest in load_catalogue(CATALOGUE)]
    assert "brain-extraction" in names
    assert names == sorted(names)


def test_a_folder_may_be_named_instead_of_its_file() -> None:
    assert load_manifest(CATALOGUE / "brain-extraction") == load_manifest(
        CATALOGUE / "brain-extraction" / "model.yaml"
    )


@pytest.mark.parametrize(
    ("old", "new", "field", "problem"),
    [
        (
            "  licence: MIT\n  manu",
            "  license: MIT\n  manu",
            "identity.license",
            "not part of the schema",
        ),
        ("  licence: MIT\n  manu", "  manu", "identity.licence", "missing"),
        ("attribute: Modality", "attribute: Modalty", "attribute", "not an attribute"),
        ("words_match: '", "words_match: '(", "words_match", "not a regular expression"),
        ("tiling: {kind: whole}", "tiling: {kind: hole}", "plan.3.tiling", "hole"),
        ("margin: {share: 0.1}", "margin: {share: 0.1, mm: 3.0}", "plan.6", "exactly one"),
        ("axes: RAS", "axes: RLS", "plan.0.axes", "a direction twice"),
        ("number: 1\n", "number: 2\n", "", "numbered 1..1"),
        ("version: 1.0.0\n  title", "version: one\n  title", "identity.version", "pattern"),
        ("cpu: [bf16, f32]", "cpu: [bf17, f32]", "precision.cpu.0", "bf17"),
        ("min_slices: 20", "min_slices: many", "min_slices", "integer"),
        ("{min: 0.3, max: 7.0}", "{min: 9.3, max: 7.0}", "spacing_mm", "above max"),
        ("any_of: [MR]", "any_of: [MR]\n        none_of: [CT]", "selector.0", "exactly one"),
        ("at_least: 1", "matches: one", "", "a pattern cannot apply"),
        ("choose: best", "use: aligned\n    choose: best", "roles.image", "brought onto"),
        ("version: 1.0.2", "version: 1.0.3", "sources.deepbet", "is not of deepbet 1.0.3"),
        ("low: 0.005", "low: 0.995", "plan.2.by", "is not below"),
        ("{scheme: UCUM, value: mL,", "{scheme: UCUM, value: mm,", "unit", "no unit of a volume"),
    ],
)
def test_a_mistake_names_its_place(
    write_manifest: Write, old: str, new: str, field: str, problem: str
) -> None:
    assert REAL.count(old) >= 1
    text = REAL.replace(old, new, 1)
    with pytest.raises(ManifestError) as caught:
        load_manifest(write_manifest(text))
    assert problem in str(caught.value)
    assert field in caught.value.field
    assert caught.value.line is not None
    assert str(caught.value).startswith(str(caught.value.file))
    assert caught.value.remedy


def test_an_unknown_key_is_named_on_its_own_line(write_manifest: Write) -> None:
    text = REAL.replace("  max_slices: 1024", "  max_slices: 1024\n      min_slice: 3")
    with pytest.raises(ManifestError) as caught:
        load_manifest(write_manifest(text))
    assert caught.value.line == line_of(text, "min_slice: 3")
    assert caught.value.field == "roles.image.gate.min_slice"


def test_a_condition_with_an_unknown_attribute_names_its_line(write_manifest: Write) -> None:
    text = REAL.replace("attribute: ScanningSequence", "attribute: ScanSequence")
    with pytest.raises(ManifestError) as caught:
        load_manifest(write_manifest(text))
    assert caught.value.line == line_of(text, "ScanSequence")


def test_a_key_that_stands_twice_is_an_error(write_manifest: Write) -> None:
    with pytest.raises(ManifestError, match="stands twice"):
        load_manifest(write_manifest(REAL + "\nresources: {host_memory_mib: 1}\n"))


def test_text_that_is_no_yaml_names_the_line(write_manifest: Write) -> None:
    with pytest.raises(ManifestError) as caught:
        load_manifest(write_manifest("schema: axial.model/v2\nidentity: [\n"))
    assert caught.value.line is not None


def test_folder_and_model_have_the_same_name(write_manifest: Write) -> None:
    with pytest.raises(ManifestError, match="folder"):
        load_manifest(write_manifest(REAL.replace("name: brain-extraction", "name: other")))


def test_a_folder_without_a_manifest_is_not_passed_over(
    write_manifest: Write, tmp_path: Path
) -> None:
    catalogue = write_manifest(REAL).parent.parent
    (catalogue / "forgotten").mkdir()
    with pytest.raises(ManifestError, match="forgotten"):
        load_catalogue(catalogue)


def test_a_missing_catalogue_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a folder"):
        load_catalogue(tmp_path / "nowhere")


def test_a_manifest_from_a_store_is_read_by_its_text() -> None:
    assert load_manifest_text(REAL, "the store") == load_manifest(CATALOGUE / "brain-extraction")
    broken = REAL.replace("name: brain-extraction", "name: brain--extraction")
    with pytest.raises(ManifestError, match=r"the store:\d+: identity\.name"):
        load_manifest_text(broken, "the store")


def test_a_manifest_cannot_be_changed(small_manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="frozen"):
        small_manifest.identity.name = "other"  # type: ignore[misc]
