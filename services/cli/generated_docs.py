"""``python -m services.cli.generated_docs``: pages that are generated from the code.

``docs/configuration.md`` from the settings' own descriptions, ``docs/conformance.md`` from the
presentation contexts, ``docs/model.schema.json`` from the manifest. With ``--check`` nothing is
written and the exit code says whether the pages are current.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from models.manifest import manifest_schema
from services.common.settings import Settings
from services.listener.conformance.statement import render_conformance

PAGES = Path("docs")

_CONFIGURATION_HEAD = """# Configuration

Generated from the settings' own descriptions by `make docs`; do not edit.

Settings come from `axial.yaml` (or the file that `--config` or `$AXIAL_CONFIG` names) and from the
environment, which wins: `listener.port` is `AXIAL_LISTENER__PORT`; lists are JSON. An unknown key
is an error that names its line. `axial config show` prints every value and where it came from.

```yaml
data_dir: /var/lib/axial
listener:
  host: 0.0.0.0
  peers:
    - {name: main PACS, ae_title: PACS, host: 10.0.0.5}
    - name: scanners
      ae_titles: [CT1, CT2, MR1]
      addresses: [10.1.0.0/16]
      verbs: [echo, store]
      priority: high
reporting:
  destinations:
    - {name: main PACS, ae_title: PACS, host: 10.0.0.5, port: 104}
```
"""


def configuration_page() -> str:
    """The configuration reference as Markdown."""
    groups = list(_groups(Settings, ""))
    parts = [_CONFIGURATION_HEAD]
    for title, model in groups:
        parts.append(f"## {title or 'top level'}\n")
        first = (model.__doc__ or "").strip().splitlines()[0]
        parts.append(f"{first}\n")
        parts.append("| setting | type | default | meaning |\n|---|---|---|---|")
        for name, field in model.model_fields.items():
            if not _is_group(field.annotation):
                parts.append(_row(name, field))
        parts.append("")
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Every generated page with its content."""
    return {
        PAGES / "configuration.md": configuration_page(),
        PAGES / "conformance.md": render_conformance(),
        PAGES / "model.schema.json": json.dumps(manifest_schema(), indent=2) + "\n",
    }


def main(arguments: list[str] | None = None) -> int:
    """Writes the pages, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when outdated")
    check = parser.parse_args(arguments).check
    outdated = [
        file
        for file, content in pages().items()
        if not file.exists() or file.read_text(encoding="utf-8") != content
    ]
    for file in outdated:
        if check:
            sys.stderr.write(f"{file} is outdated; run: make docs\n")
        else:
            file.write_text(pages()[file], encoding="utf-8")
    return 1 if check and outdated else 0


def _groups(model: type[BaseModel], at: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield at, model
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _groups(inner, f"{at}.{name}".lstrip("."))
        for item in get_args(inner):
            if isinstance(item, type) and issubclass(item, BaseModel):
                yield from _groups(item, f"{at}.{name}[]".lstrip("."))


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split())
    cells = (f"`{name}`", _type(field.annotation), f"`{_default(field)}`", meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(annotation: Any) -> str:
    if get_origin(annotation) is None:
        return str(getattr(annotation, "__name__", annotation))
    arguments = [a for a in get_args(annotation) if a is not Ellipsis]
    origin = str(getattr(get_origin(annotation), "__name__", get_origin(annotation)))
    if origin == "Literal":
        return " or ".join(str(value) for value in arguments)
    if origin == "tuple":
        return f"list of {_type(arguments[0])}"
    if origin in ("Union", "UnionType"):
        return " or ".join("nothing" if a is type(None) else _type(a) for a in arguments)
    return _type(arguments[0])


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "the host's name"
    if field.default is PydanticUndefined:
        return "required"
    if field.default == ():
        return "[]"
    if isinstance(field.default, tuple):
        return "[" + ", ".join(map(str, field.default)) + "]"
    return "nothing" if field.default is None else str(field.default)


if __name__ == "__main__":
    sys.exit(main())
