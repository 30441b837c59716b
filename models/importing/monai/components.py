"""Components of a bundle's configuration: a class by name, with arguments that are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from models.importing.errors import NotImportableError
from models.importing.monai.configuration import Configuration, Expression

__all__ = ["Component", "component", "components"]

_KEPT_BY_MONAI: Final = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"})
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Component:
    """A class and its arguments.

    Attributes:
        name: of the class, without its module.
        place: where it stands, for errors.
    """

    configuration: Configuration
    name: str
    place: str
    arguments: Mapping[str, Any]

    def refused(self, problem: str) -> NotImportableError:
        """Return the error for a component that cannot be said as a plan."""
        return self.configuration.refused(self.place, f"{self.name} {problem}")

    def argument(self, name: str, default: Any) -> Any:
        """Return an argument.

        Raises:
            NotImportableError: it is Python that would have to be run.
        """
        found = self.arguments.get(name, default)
        self._require_said(name, found)
        return found

    def plain(self) -> dict[str, Any]:
        """Return all arguments; as for `argument`."""
        return {name: self.argument(name, None) for name in self.arguments}

    def require(self, name: str, default: Any, *allowed: Any) -> None:
        """Require an argument to be one of those that a plan can say.

        Raises:
            NotImportableError: it is another.
        """
        found = self.argument(name, default)
        if found not in allowed:
            said = " or ".join(repr(one) for one in allowed)
            raise self.refused(f"has {name} {found!r}; only {said} can be said.")

    def only(self, *known: str) -> None:
        """Require that there are no arguments but these.

        Raises:
            NotImportableError: there are.
        """
        for name, found in self.arguments.items():
            if name not in known and found is not None:
                raise self.refused(f"has the argument {name}, which cannot be said.")

    def numbers(self, name: str, count: int) -> list[float]:
        """Return an argument of so many numbers; one stands for all of them.

        Raises:
            NotImportableError: it is something else.
        """
        found = self.argument(name, None)
        many = found if isinstance(found, list | tuple) else [found] * count  # pyright: ignore[reportUnknownVariableType]
        if len(many) != count or not all(_is_number(one) for one in many):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            raise self.refused(f"has {name} {found!r}, which is not {count} numbers.")
        return [float(one) for one in many]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    def is_about(self, key: str) -> bool:
        """Return whether a transform works on what is called `key`; without keys: on all."""
        keys = self.argument("keys", key)
        return key in (keys if isinstance(keys, list | tuple) else [keys])

    def _require_said(self, name: str, found: Any) -> None:
        if isinstance(found, Expression):
            raise self.refused(
                f"has {name} `{found.text[:_SHOWN]}`, which is code, and no code of a bundle is "
                "run. Write the value itself."
            )
        if isinstance(found, list | tuple):
            for one in found:  # pyright: ignore[reportUnknownVariableType]
                self._require_said(name, one)


def component(configuration: Configuration, value: Any, place: str) -> Component:
    """Read one component.

    Raises:
        NotImportableError: it is none, or its class is code of the bundle.
    """
    if not isinstance(value, dict) or not isinstance(value.get("_target_"), str):  # pyright: ignore[reportUnknownMemberType]
        raise configuration.refused(place, "is no component with a `_target_`.")
    target: str = value["_target_"]
    known = target.startswith("monai.") or "." not in target
    if not known:
        raise configuration.refused(
            place,
            f"{target} is code beside MONAI, as a bundle's own scripts are, and is not run. What "
            "it does has to be said as a step of the plan.",
        )
    arguments = {
        str(name): one
        for name, one in value.items()  # pyright: ignore[reportUnknownVariableType]
        if name not in _KEPT_BY_MONAI
    }
    return Component(configuration, target.rsplit(".", 1)[-1], place, arguments)


def components(configuration: Configuration, name: str) -> list[Component]:
    """Read a Compose of transforms, without those that are switched off.

    Raises:
        NotImportableError: there is none under that name.
    """
    whole = component(configuration, configuration.get(name), name)
    transforms = whole.argument("transforms", None)
    if whole.name != "Compose" or not isinstance(transforms, list):
        raise configuration.refused(name, "is no Compose of transforms.")
    return [
        component(configuration, one, f"{name}.transforms.{place}")
        for place, one in enumerate(transforms)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if not _is_off(configuration, one, f"{name}.transforms.{place}")
    ]


def _is_off(configuration: Configuration, value: Any, place: str) -> bool:
    off = value.get("_disabled_", False) if isinstance(value, dict) else False  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(off, Expression):
        raise configuration.refused(
            place, f"_disabled_ is code (`{off.text}`). Write true or false."
        )
    return str(off).lower() == "true"  # pyright: ignore[reportUnknownArgumentType]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
