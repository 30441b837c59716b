"""Command lines read without Typer, from the declaration that Typer has too.

A command declares its parameters as ``Annotated[type, Option(...)]`` or ``Annotated[type,
Argument(...)]``; options that several commands have are the fields of a dataclass that each of them
takes as one parameter. `run_plainly` reads and runs what is plainly right; what is not (help, an
unknown option, a value that does not fit) is left to Typer, which has the words for it.
`for_typer` makes Typer's command of the same declaration.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

Command = Callable[..., None]


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        name: with its dashes; empty takes the parameter's.
        minimum, maximum: of a number.
    """

    help: str
    name: str = ""
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Argument:
    """A parameter that is no option: one word or more."""

    help: str
    metavar: str


@dataclass(frozen=True)
class _Parameter:
    """A parameter of a command, or a field of one that is a dataclass.

    Attributes:
        group: the parameter whose field it is; empty for one of the command's own.
        hint: its type; kind: what one word becomes.
        default: `inspect.Parameter.empty` where it has none.
    """

    name: str
    group: str
    hint: Any
    kind: type
    declared: Option | Argument
    default: Any

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        named = self.declared.name if isinstance(self.declared, Option) else ""
        return named or "--" + self.name.replace("_", "-")


def run_plainly(command: Command, words: Sequence[str]) -> bool:
    """Runs a command; False, and nothing is run, where Typer is to read the words.

    Args:
        words: of the command line, without the command's name.
    """
    values = read_words(command, words)
    if values is None:
        return False
    command(**_grouped(command, values))
    return True


def read_words(command: Command, words: Sequence[str]) -> dict[str, Any] | None:
    """The values that words give to a command's parameters; None where Typer is to read them."""
    parameters = _parameters(command)
    options = {each.flag: each for each in parameters if isinstance(each.declared, Option)}
    arguments = [each for each in parameters if isinstance(each.declared, Argument)]
    values: dict[str, Any] = {each.name: [] for each in arguments}
    left = list(reversed(words))
    try:
        while left:
            word = left.pop()
            name, equals, text = word.partition("=")
            if not word.startswith("-"):
                values[arguments[0].name].append(_read(arguments[0], word))
            elif (option := options[name]).kind is not bool:
                values[option.name] = _read(option, text if equals else left.pop())
            elif equals:
                return None
            else:
                values[option.name] = True
    except (KeyError, IndexError, ValueError):
        return None
    return values if all(values[each.name] for each in arguments) else None


def for_typer(command: Command) -> Command:
    """The command as Typer wants it declared."""
    import typer

    @wraps(command)
    def declared(**values: Any) -> None:
        command(**_grouped(command, values))

    shown: list[inspect.Parameter] = []
    for each in _parameters(command):
        said = each.declared
        if isinstance(said, Argument):
            info: Any = typer.Argument(metavar=said.metavar, help=said.help)
        else:
            info = typer.Option(each.flag, help=said.help, min=said.minimum, max=said.maximum)
        hint = Annotated[each.hint, info]
        shown.append(
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=hint,
            )
        )
    changed: Any = declared
    changed.__annotations__ = {each.name: each.annotation for each in shown}
    changed.__signature__ = inspect.Signature(shown)
    return declared


def _grouped(command: Command, values: Mapping[str, Any]) -> dict[str, Any]:
    """A command's parameters; those that are dataclasses made of their fields."""
    groups = {name: hint for name, hint in get_type_hints(command).items() if is_dataclass(hint)}
    own = {
        each.name: values[each.name]
        for each in _parameters(command)
        if not each.group and each.name in values
    }
    for group, kind in groups.items():
        fields = {
            each.name: values[each.name]
            for each in _parameters(command)
            if each.group == group and each.name in values
        }
        own[group] = kind(**fields)  # pyright: ignore[reportCallIssue] - a class, not a value
    return own


def _parameters(command: Command) -> list[_Parameter]:
    found: list[_Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if not is_dataclass(hint):
            found.append(_parameter(name, "", hint, parameter.default))
            continue
        fields = get_type_hints(hint, include_extras=True)
        for field, given in inspect.signature(hint).parameters.items():  # pyright: ignore
            found.append(_parameter(field, name, fields[field], given.default))
    return found


def _parameter(name: str, group: str, hint: Any, default: Any) -> _Parameter:
    known, declared = get_args(hint)
    kind = known
    if get_origin(known) is list:
        (kind,) = get_args(known)
    elif isinstance(known, UnionType):
        (kind,) = (each for each in get_args(known) if each is not NoneType)
    return _Parameter(name, group, known, kind, declared, default)


def _read(parameter: _Parameter, text: str) -> Any:
    """The value that a word stands for.

    Raises:
        ValueError: it stands for none.
    """
    value = parameter.kind(text)
    declared = parameter.declared
    if isinstance(declared, Option):
        least, most = declared.minimum, declared.maximum
        # (What is no number is neither: `nan`.)
        if (least is not None and not value >= least) or (most is not None and not value <= most):
            raise ValueError(text)
    return value
