"""What a build was made with is part of its key, under whatever name its tools are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from models.building import building
from models.manifest import Manifest, Precision, Target


def installed(**packages: str) -> object:
    def version(name: str) -> str:
        if name.replace("-", "_") not in packages:
            raise PackageNotFoundError(name)
        return packages[name.replace("-", "_")]

    return version


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_cu13", "tensorrt_cu12"])
def test_tensorrts_version_counts_under_each_of_its_names(
    name: str, small_manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: set[str] = set()
    for version in ("10.13.0", "11.4.0", ""):
        packages = {name: version} if version else {}
        monkeypatch.setattr(building, "version", installed(torch="2.13.0", **packages))
        keys.add(building._build_key(small_manifest, Target.TENSORRT, Precision.F16))  # pyright: ignore[reportPrivateUsage]
    assert len(keys) == 3
