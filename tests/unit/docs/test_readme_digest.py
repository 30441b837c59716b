"""The digest that the README shows is that of the catalogue's model as it is."""

from __future__ import annotations

import re
from pathlib import Path

from models.manifest import load_manifest

ROOT = Path(__file__).resolve().parents[3]
SHOWN = re.compile(r"model (\S+) .*cpu, (\w+), digest ([0-9a-f]{12})")


def test_the_readme_shows_the_digest_of_the_model_as_it_is() -> None:
    shown = SHOWN.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown
    for name, precision, digest in shown:
        manifest = load_manifest(ROOT / "models" / "catalogue" / name)
        assert manifest.digest_for(precision).startswith(digest)
