"""What every verb's command line is made of: a parser with errors of one line, and options from dataclasses."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from sfm.options import ChallengeEvaluation, MatchOptions, Options, PairEvaluation

PROGRAM = "loftr-sfm"
Root = TypeVar("Root", Options, MatchOptions, PairEvaluation, ChallengeEvaluation)


class Parser(argparse.ArgumentParser):
    """Errors are one line and exit code 2; options are not guessed from their beginnings."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Prints the message as one line and exits with 2."""
        self.exit(2, f"{PROGRAM}: error: {message} (see {self.prog} --help)\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


# --- options from dataclasses -------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, root: type[Any] = Options) -> None:
    """An option for every field of every stage's dataclass, grouped by stage, with its help and its default."""
    for stage, kind in get_type_hints(root).items():
        group = parser.add_argument_group(f"{stage}: {(kind.__doc__ or '').rstrip('.')}")
        hints = get_type_hints(kind)
        for option in (option for option in fields(kind) if option.init):
            group.add_argument("--" + option.name.replace("_", "-"), **_argument(stage, option, hints[option.name]))


def _argument(stage: str, option: Field[Any], hint: Any) -> dict[str, Any]:
    shared = {"dest": f"{stage}.{option.name}", "default": option.default, "help": option.metadata["help"]}
    if hint is bool:
        return {**shared, "action": "store_true"}
    if option.default is not None:
        shared["help"] += f" (default: {option.default})"
    kind = next((arg for arg in get_args(hint) if arg is not type(None)), hint)
    choices = option.metadata.get("choices")
    return {**shared, "type": kind, "choices": choices, "metavar": option.metadata.get("metavar")}


def options_from(args: argparse.Namespace, root: type[Root] = Options) -> Root:  # type: ignore[assignment]
    """The options that were parsed. Raises BadOption for values that make no sense."""
    return root(
        **{
            stage: kind(**{o.name: getattr(args, f"{stage}.{o.name}") for o in fields(kind) if o.init})
            for stage, kind in get_type_hints(root).items()
        }
    )
