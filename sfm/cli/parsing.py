"""What every verb's command line is made of: a parser with errors of one line, and options from dataclasses."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from sfm.cli.registries import REGISTRIES
from sfm.cli.suggestions import did_you_mean
from sfm.options import Options
from sfm.presets import preset_values
from sfm.registry import Registry

PROGRAM = "loftr-sfm"
Root = TypeVar("Root")
Registries = Mapping[str, Callable[[], Registry[Any]]]


class Parser(argparse.ArgumentParser):
    """Errors are one line and exit code 2; options are not guessed from their beginnings, but the nearest is named."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **kwargs)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The parsed command line; an error for what is left over of it."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = [word.partition("=")[0] for word in unknown if word.startswith("--")]
            hints = [did_you_mean(word, self._option_string_actions) for word in options]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{''.join(hints)}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """ArgumentError with the nearest choice for a word that is none: argparse's own names none."""
        if action.choices is not None and value not in action.choices:
            names = list(map(str, action.choices))
            raise argparse.ArgumentError(
                action, f"{value!r}: choose one of {', '.join(names)}{did_you_mean(str(value), names)}"
            )

    def error(self, message: str) -> NoReturn:
        """Prints the message as one line and exits with 2."""
        self.exit(2, f"{PROGRAM}: error: {message} (see {self.prog} --help)\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=110)


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line.

    usage: its arguments, without the program's name. help: one line of the overview. add_arguments: to its parser.
    run: what it does with them; returns the exit code. text: what its --help says before the arguments. examples: what
    its --help ends with. carries_on: after an interruption, with what it did before.
    """

    usage: str
    help: str
    add_arguments: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]
    text: str = ""
    examples: str = ""
    carries_on: bool = False


def one_of(*names: str) -> dict[str, Any]:
    """`type` and `metavar` of an argument that is one of these names."""
    return {"type": _choice(names), "metavar": "|".join(names)}


def _choice(names: Sequence[str]) -> Callable[[str], str]:
    def chosen(word: str) -> str:
        if word not in names:
            raise argparse.ArgumentTypeError(f"{word!r}: choose one of {', '.join(names)}{did_you_mean(word, names)}")
        return word

    return chosen


def entry_of(registry: Registry[Any]) -> Callable[[str], str]:
    """`type` of an argument that is an entry of a registry, NAME or NAME:ARGUMENT, or several where they may be."""

    def chosen(word: str) -> str:
        registry.parts(word)
        return word

    return chosen


def add_model_number(parser: argparse.ArgumentParser) -> None:
    """`--model N`, where a path may hold several models."""
    parser.add_argument(
        "--model", type=int, metavar="N", help="of several models the one in sparse/N (default: of most images)"
    )


# --- options from dataclasses -------------------------------------------------------------------


def add_options(
    parser: argparse.ArgumentParser, root: type[Any] = Options, *, registries: Registries = REGISTRIES
) -> None:
    """An option for every field of every stage's dataclass, grouped by stage, with its help and its default.

    registries: by name; a field that names its `registry` has its choices and its help from there. What is not given is
    not in the namespace: options_from fills it in.
    """
    for stage, kind in get_type_hints(root).items():
        group = parser.add_argument_group(f"{stage}: {(kind.__doc__ or '').rstrip('.')}")
        hints = get_type_hints(kind)
        for item in (item for item in fields(kind) if item.init):
            flag, hint = "--" + item.name.replace("_", "-"), hints[item.name]
            names = (item.metadata["flag"], flag) if "flag" in item.metadata else (flag,)
            group.add_argument(*names, dest=f"{stage}.{item.name}", **_argument(item, hint, registries))


def _argument(item: Field[Any], hint: Any, registries: Registries) -> dict[str, Any]:
    """What argparse needs to know of an option; %% because argparse formats help."""
    about = item.metadata
    if hint is bool:
        return {"default": argparse.SUPPRESS, "help": about["help"], "action": "store_true"}
    registry = registries[about["registry"]]() if "registry" in about else None
    text = about["help"]
    if registry is not None:
        text += f": {', '.join([registry.help(), *([about['other']] if 'other' in about else [])])}"
    if item.default is not None:
        text += f" (default: {item.default})"
    return {
        "default": argparse.SUPPRESS,
        "help": text.replace("%", "%%"),
        "metavar": about.get("metavar"),
        "type": _type(item, hint, registry),
    }


def _type(item: Field[Any], hint: Any, registry: Registry[Any] | None) -> Callable[[str], Any]:
    """How an option's word becomes its value."""
    about = item.metadata
    if registry is not None and "other" not in about:
        return entry_of(registry)
    if about.get("choices"):
        return _choice(about["choices"])
    kind: Callable[[str], Any] = next((arg for arg in get_args(hint) if arg is not type(None)), hint)
    return kind


def options_from(args: argparse.Namespace, root: type[Root]) -> Root:
    """The options that were parsed; of others what the preset says, or their defaults. BadOption for values that make
    no sense."""
    stages = get_type_hints(root)
    given = {f"{stage}.{o.name}" for stage, kind in stages.items() for o in fields(kind)} & vars(args).keys()
    chosen = {name.partition(".")[2]: getattr(args, name) for name in given}
    values = {**preset_values(chosen.get("preset", "")), **chosen}
    return root(
        **{
            stage: kind(**{o.name: values[o.name] for o in fields(kind) if o.init and o.name in values})
            for stage, kind in stages.items()
        }
    )
