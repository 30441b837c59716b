"""The digest changes with all that decides a result, and with nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from models.manifest import Manifest, Precision, Target, digest
from models.manifest.digest import decides_nothing
from tests.builders.mutations import reordered, replaced


def changed(data: dict[str, Any], path: list[str | int], value: Any) -> Manifest:
    other = copy.deepcopy(data)
    node = other
    for step in path[:-1]:
        node = node[step]  # type: ignore[index]
    node[path[-1]] = value  # type: ignore[index]
    return Manifest.model_validate(other)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["sources", "deepbet", "files", 0, "sha256"], "0" * 64),
        (["sources", "deepbet", "sha256"], "0" * 64),
        (["plan", 10, "rule", "at"], 0.6),
        (["plan", 6, "margin", "share"], 0.2),
        (["plan", 2, "by", "low"], 0.01),
        (["plan", 12, "by", "connectivity"], 6),
        (["segments", 0, "colour_cielab"], [1, 2, 3]),
        (["roles", "image", "gate", "min_slices"], 21),
        (["roles", "image", "selector", 0, "any_of"], ["MR", "OT"]),
        (["findings", 0, "max_ml"], 2500.0),
        (["identity", "version"], "1.0.1"),
        # Words that a fate, a page or a report shows.
        (["roles", "image", "title"], "other words"),
        (["roles", "image", "selector", 0, "why"], "because"),
        (["roles", "image", "gate", "accepts", "several_volumes"], "first"),
    ],
)
def test_what_decides_a_result_changes_the_digest(
    manifest_data: dict[str, Any], small_manifest: Manifest, path: list[str | int], value: Any
) -> None:
    assert changed(manifest_data, path, value).digest != small_manifest.digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["identity", "description"], "other words"),
        (["identity", "citation"], ""),
        (["identity", "licence"], "other"),
        (["sources", "deepbet", "licence"], "other"),
        (["resources", "host_memory_mib"], 9),
        (["findings", 0, "why"], "because"),
        (["acceptance", "parity", "bounds", "f32", "min_dice"], 0.9),
        (["precision", "cpu"], ["bf16"]),
    ],
)
def test_what_decides_nothing_leaves_the_digest(
    manifest_data: dict[str, Any], small_manifest: Manifest, path: list[str | int], value: Any
) -> None:
    assert changed(manifest_data, path, value).digest == small_manifest.digest


@pytest.mark.parametrize("keys", [sorted, lambda keys: sorted(keys, reverse=True)])
def test_the_order_of_keys_decides_nothing(
    manifest_data: dict[str, Any], small_manifest: Manifest, keys: Callable[[Any], list[str]]
) -> None:
    """All that is read from a manifest is the same, in the same order."""
    manifest_data["roles"]["t1-gd"] = {
        **manifest_data["roles"]["image"],
        "use": "aligned",
        "align": {"to": "image", "by": "same-frame"},
    }
    ours = Manifest.model_validate(manifest_data)
    other = Manifest.model_validate(_sorted_by(manifest_data, keys))
    assert other.digest == ours.digest != small_manifest.digest
    assert other.model_dump_json() == ours.model_dump_json()


def _sorted_by(node: Any, keys: Callable[[Any], list[str]]) -> Any:
    if isinstance(node, dict):
        return {key: _sorted_by(node[key], keys) for key in keys(node)}
    if isinstance(node, list):
        return [_sorted_by(value, keys) for value in node]
    return node


def test_the_order_of_a_list_is_part_of_the_digest(
    manifest_data: dict[str, Any], small_manifest: Manifest
) -> None:
    """Or the order is refused, as that of segments, whose numbers rise."""
    digests = {small_manifest.digest}
    turned = 0
    for path, value in reordered(manifest_data):
        if decides_nothing(["*" if isinstance(step, int) else step for step in path]):
            continue
        turned += 1
        other = Manifest.model_validate(replaced(manifest_data, path, value))
        digests.add(other.digest)
    assert turned > 5
    assert len(digests) == turned + 1


def test_segments_out_of_order_are_refused(manifest_data: dict[str, Any]) -> None:
    second = {**manifest_data["segments"][0], "number": 2}
    manifest_data["segments"] = [second, manifest_data["segments"][0]]
    with pytest.raises(ValueError, match="in order"):
        Manifest.model_validate(manifest_data)


def test_precision_and_target_are_part_of_the_digest(small_manifest: Manifest) -> None:
    digests = {
        small_manifest.digest_for(precision, target) for precision in Precision for target in Target
    }
    assert len(digests) == len(Precision) * len(Target)
    assert small_manifest.digest == small_manifest.digest_for("bf16", "cpu")


def test_another_version_of_the_arithmetic_changes_the_digest(
    small_manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small_manifest.digest
    monkeypatch.setattr(digest, "RUNTIME_VERSION", "axial-runtime/999")
    assert small_manifest.digest != before
