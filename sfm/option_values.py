"""How an option is declared, and the values of those that are given as keywords."""

from __future__ import annotations

from dataclasses import field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, get_args, get_type_hints

from sfm.errors import BadOption


def option(default: Any, help: str, **extra: Any) -> Any:
    """A field of an options dataclass. extra: metavar, choices, registry, other, flag (its first name, if not the
    field's)."""
    return field(default=default, metadata={"help": help, **extra})


def weights_option(auto_on_cpu: str) -> Any:
    """The field for the weights of a network. auto_on_cpu: those that auto takes without a GPU."""
    return option(
        "auto",
        "of the network: outdoor, indoor, indoor_new, minima, compact, compact-wide, eloftr-outdoor (of "
        f"efficient-loftr), a checkpoint file, or auto (outdoor on a GPU, else {auto_on_cpu}; its own of "
        "efficient-loftr); see weights list",
        metavar="NAME|FILE",
    )


def require(ok: bool, message: str) -> None:
    """BadOption with the message unless ok."""
    if not ok:
        raise BadOption(message)


_ACCEPTED: dict[Any, tuple[type, ...]] = {int: (Integral,), float: (Real,)}


def checked(stage: type[Any], name: str, value: Any) -> Any:
    """A keyword's value in its field's own type: 2 is 2.0 where a float is meant, numpy's numbers are Python's.

    BadOption for one of another kind, or none of the field's choices.
    """
    hint, flag = get_type_hints(stage)[name], f"--{name.replace('_', '-')}"
    kinds = get_args(hint) or (hint,)
    accepted = tuple(kind for each in kinds for kind in _ACCEPTED.get(each, (each,)))
    fits = isinstance(value, accepted) and (bool in kinds or not isinstance(value, bool))
    wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
    if not fits:
        raise BadOption(f"{flag} {value!r}: must be {wanted}, not {type(value).__name__}")
    choices = next(item for item in fields(stage) if item.name == name).metadata.get("choices")
    if choices and value not in choices:
        near = get_close_matches(value, choices, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise BadOption(f"{flag} {value}: choose one of {', '.join(choices)}{meant}")
    number = next((kind for kind in kinds if kind in _ACCEPTED), None)
    return value if number is None or value is None else number(value)
