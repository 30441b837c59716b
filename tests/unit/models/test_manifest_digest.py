"""The digest changes with all that decides a result, and with nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from models.manifest import Manifest, Precision, Target, digest


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
        (["pipeline", "fine", "threshold"], 0.6),
        (["pipeline", "coarse", "margin"], 0.2),
        (["intensity", "low"], 0.01),
        (["postprocess"], []),
        (["segments", 0, "colour_cielab"], [1, 2, 3]),
        (["roles", "image", "gate", "min_slices"], 21),
        (["roles", "image", "selector", 0, "any_of"], ["MR", "OT"]),
        (["acceptance", "plausible", 0, "max_ml"], 2500.0),
        (["identity", "version"], "1.0.1"),
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
        (["resources", "host_memory_mib"], 9),
        (["roles", "image", "selector", 0, "why"], "because"),
        (["acceptance", "plausible", 0, "why"], "because"),
        (["acceptance", "parity", "bounds", "f32", "min_dice"], 0.9),
        (["precision", "cpu"], ["bf16"]),
    ],
)
def test_what_decides_nothing_leaves_the_digest(
    manifest_data: dict[str, Any], small_manifest: Manifest, path: list[str | int], value: Any
) -> None:
    assert changed(manifest_data, path, value).digest == small_manifest.digest


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
