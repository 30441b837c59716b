"""Loading settings: file, environment, and where each value came from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from services.common.errors import AxialError
from services.common.settings.group import is_secret, without_password
from services.common.settings.tree import Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "AXIAL_"
_NESTED = "__"
# Variables of ours that are not settings: where those lie, and what tests tell each other.
_NOT_SETTINGS = frozenset(
    {
        "AXIAL_CONFIG",
        "AXIAL_SHARED",
        "AXIAL_CRASH_FILE",
        "AXIAL_NO_SKIPS",
    }
)

Path_ = tuple[str | int, ...]


class SettingsError(AxialError):
    """A setting is unknown or wrong; the message names the file and line, or the variable."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings with the origin of every value that is not a default.

    Attributes:
        settings: the validated tree.
        origins: dotted path -> ``axial.yaml:12`` or ``$AXIAL_LISTENER__PORT``.
    """

    settings: Settings
    origins: Mapping[str, str]

    def origin(self, dotted: str) -> str:
        """Where the value at `dotted` came from; ``default`` when nobody set it."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            found = self.origins.get(".".join(parts[:length]))
            if found is not None:
                return found
        return "default"


def load_settings(
    file: Path | None = None, environment: Mapping[str, str] | None = None
) -> LoadedSettings:
    """Settings from a YAML file and the environment; the environment wins.

    Args:
        file: the YAML file; None takes ``$AXIAL_CONFIG``, else ``axial.yaml`` if it exists.
        environment: variables, ``AXIAL_LISTENER__PORT=11112``; None takes the process's.

    Raises:
        SettingsError: the file is missing or is no YAML, a key is unknown, a value is wrong.
    """
    variables = dict(os.environ if environment is None else environment)
    path = _settings_file(file, variables)
    tree, lines = _read_yaml(path) if path is not None else ({}, {})
    origins = {_dotted(key): f"{path}:{line}" for key, line in lines.items()}
    from_environment = _read_environment(variables)
    for key in _leaves(from_environment):
        origins[_dotted(key)] = "$" + ENVIRONMENT_PREFIX + _NESTED.join(map(str, key)).upper()
    merged = _merge(tree, from_environment)
    try:
        return LoadedSettings(Settings.model_validate(merged), origins)
    except ValidationError as error:
        raise SettingsError(_explain(error, origins, path)) from None


def _settings_file(file: Path | None, variables: Mapping[str, str]) -> Path | None:
    chosen = file or (Path(variables["AXIAL_CONFIG"]) if "AXIAL_CONFIG" in variables else None)
    if chosen is None:
        default = Path("axial.yaml")
        return default if default.exists() else None
    if not chosen.exists():
        raise SettingsError(f"Settings file {chosen} does not exist.")
    return chosen


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[Path_, int]]:
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    if node is None:
        return {}, {}
    lines: dict[Path_, int] = {}
    _collect_lines(node, (), lines)
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise SettingsError(f"{path}:1: expected keys such as 'listener:', found something else.")
    return cast(dict[str, Any], value), lines


def _collect_lines(node: yaml.Node, at: Path_, lines: dict[Path_, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*at, str(key.value))
            lines[inner] = key.start_mark.line + 1
            _collect_lines(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _collect_lines(value, (*at, index), lines)


def _read_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    ours = {
        name: value
        for name, value in variables.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in _NOT_SETTINGS
    }
    for name in ours:
        first = name.removeprefix(ENVIRONMENT_PREFIX).lower().split(_NESTED)[0]
        if first not in Settings.model_fields:
            raise SettingsError(f"${name} is not a setting of Axial. See `axial config show`.")

    class _Environment(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in ours.items()}

    class _Holder(Settings, BaseSettings):
        model_config = SettingsConfigDict(extra="forbid")

    source = _Environment(
        _Holder, env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter=_NESTED, case_sensitive=False
    )
    return source()


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        merged = dict(cast(dict[str, Any], base))
        for key, value in cast(dict[str, Any], over).items():
            merged[key] = _merge(merged.get(key), value)
        return merged
    return over


def _leaves(tree: Any, at: Path_ = ()) -> list[Path_]:
    if isinstance(tree, dict):
        return [
            leaf
            for key, value in cast(dict[str, Any], tree).items()
            for leaf in _leaves(value, (*at, key))
        ]
    return [at]


def _dotted(key: Path_) -> str:
    return ".".join(map(str, key))


def _explain(error: ValidationError, origins: Mapping[str, str], path: Path | None) -> str:
    sentences: list[str] = []
    for problem in error.errors():
        dotted = _dotted(tuple(problem["loc"]))
        place = _nearest_origin(dotted, origins) or str(path or "settings")
        if problem["type"] == "extra_forbidden":
            sentences.append(f"{place}: '{dotted}' is not a setting of Axial.{_suggest(dotted)}")
        else:
            what = f"{dotted}: " if dotted else ""
            sentences.append(f"{place}: {what}{problem['msg']}{_found(problem)}")
    return "\n".join(sentences)


def _found(problem: ErrorDetails) -> str:
    """The wrong value, unless it is a secret, may be one, or holds others."""
    value = problem["input"]
    if not isinstance(value, str | int | float | None) or _holds_secret(problem["loc"]):
        return ""
    return f" (found {without_password(repr(value))})"


def _holds_secret(place: Sequence[str | int]) -> bool:
    """Whether the setting at a place is a secret by its type, or lies in one."""
    model: Any = Settings
    for name in place:
        if isinstance(name, int):
            continue
        field = getattr(model, "model_fields", {}).get(name)
        if field is None:
            return False
        if is_secret(field.annotation, tuple(field.metadata)):
            return True
        model = _group_of(field.annotation)
    return False


def _group_of(annotation: Any) -> Any:
    """The group of settings in a field's type; None where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_group_of(part) for part in get_args(annotation))
    return next((group for group in inner if group is not None), None)


def _nearest_origin(dotted: str, origins: Mapping[str, str]) -> str | None:
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        found = origins.get(".".join(parts[:length]))
        if found is not None:
            return found
    return None


def _suggest(dotted: str) -> str:
    from difflib import get_close_matches

    *groups, last = dotted.split(".")
    model: type[BaseModel] = Settings
    for name in groups:
        field = model.model_fields.get(name)
        if field is None or not isinstance(field.annotation, type):
            return ""
        if not issubclass(field.annotation, BaseModel):
            return ""
        model = field.annotation
    near = get_close_matches(last, list(model.model_fields), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
