"""Manifests and small networks for the models' tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from models.manifest import Manifest
from tests.builders.small_models import shrink

CATALOGUE = Path(__file__).resolve().parents[3] / "models" / "catalogue"


@dataclass(frozen=True, slots=True)
class BrightnessNetwork:
    """A network that can be understood: foreground is what is brighter than `above`."""

    name: str
    shape: tuple[int, int, int]
    above: float = 0.449
    target: str = "cpu"
    precision: str = "f32"
    written: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])

    def image(self) -> NDArray[np.float32]:
        if not self.written:
            self.written.append(np.empty(self.shape, np.float32))
        return self.written[0]

    def foreground(self) -> NDArray[np.uint8]:
        return (self.image() > self.above).astype(np.uint8)

    def release(self) -> None:
        """Nothing is held."""


@pytest.fixture
def manifest_data() -> dict[str, Any]:
    """The catalogue's own manifest as data, with small networks."""
    data: dict[str, Any] = yaml.safe_load(
        (CATALOGUE / "brain-extraction" / "model.yaml").read_text()
    )
    shrink(data, 16, 32)
    return data


@pytest.fixture
def small_manifest(manifest_data: dict[str, Any]) -> Manifest:
    return Manifest.model_validate(manifest_data)


@pytest.fixture
def brightness_networks(small_manifest: Manifest) -> Mapping[str, BrightnessNetwork]:
    return {
        name: BrightnessNetwork(name, network.patch)
        for name, network in small_manifest.networks.items()
    }


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[[Mapping[str, Any] | str], Path]:
    """Writes a manifest into a folder named for the model and returns the file."""

    def write(content: Mapping[str, Any] | str) -> Path:
        folder = tmp_path / "catalogue" / "brain-extraction"
        folder.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(dict(content))
        (folder / "model.yaml").write_text(text)
        return folder / "model.yaml"

    return write
