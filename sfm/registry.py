"""Registries: the exchangeable parts of a run by name, built in or from other packages.

A registry is a dict literal in its package (MATCHERS, PAIR_SELECTORS, MAPPERS, EXPORTS): name -> Entry. Another package
adds to it by an entry point of the registry's group whose value is an Entry:

    [project.entry-points."loftr_sfm.matchers"]
    template = "my_package:ENTRY"

argparse's choices and help are made from the same dict. On the command line an entry is `NAME` or, where it takes an
argument, `NAME:ARGUMENT`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Generic, TypeVar

from sfm.errors import BadOption, one_line
from sfm.wording import did_you_mean

log = logging.getLogger(__name__)

JOIN = "+"  # between the names of choices that are made together
MOST = 8  # of them: a keypoint's key has three bits for the matcher that found it (sfm.tracks.links)

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Entry(Generic[Made]):
    """One choice of a registry.

    help: what it is, half a line of `--help`. make: the factory or function itself; its signature is the registry's.
    argument: how `--help` names what may follow the name after a colon, "" where nothing may; required: it must.
    version: raised when the results change, so that what an earlier one made is not reused; a matcher has its
    provenance for that.
    """

    help: str
    make: Made
    argument: str = ""
    version: str = ""
    required: bool = False

    def usage(self, name: str) -> str:
        """How it is written: NAME, NAME[:ARGUMENT] or NAME:ARGUMENT."""
        if not self.argument:
            return name
        return f"{name}:{self.argument}" if self.required else f"{name}[:{self.argument}]"


@dataclass(frozen=True, slots=True)
class Registry(Generic[Made]):
    """Choices by name. what: for messages, with its option, e.g. "--matcher". group: of the entry points.

    joined: whether several may be chosen, as NAME+NAME.
    """

    what: str
    group: str
    built_in: Mapping[str, Entry[Made]]
    joined: bool = False

    def entries(self) -> dict[str, Entry[Made]]:
        """All choices, the built-in ones first. An entry of another package never replaces one of ours."""
        found = dict(self.built_in)
        for name, entry in _entries_of(self.group).items():
            found.setdefault(name, entry)
        return found

    def parts(self, spec: str) -> tuple[str, ...]:
        """The choices, of which there may be several. BadOption where there is one twice, or none of its name."""
        parts = tuple(spec.split(JOIN)) if self.joined else (spec,)
        for part in parts:
            if not part:
                raise BadOption(f"{self.what} {spec}: a name is empty; choose one of {', '.join(self.entries())}")
            self.choose(part)
            if parts.count(part) > 1:
                raise BadOption(f"{self.what} {spec}: names {part} twice")
        if len(parts) > MOST:
            raise BadOption(f"{self.what} {spec}: names {len(parts)}; at most {MOST} can be side by side")
        return parts

    def choose(self, spec: str) -> tuple[Made, str | None]:
        """The factory of "NAME" or "NAME:ARGUMENT", and the argument. BadOption where there is none of this name."""
        name, colon, argument = spec.partition(":")
        entries = self.entries()
        if name not in entries:
            raise BadOption(f"{self.what} {spec}: choose one of {', '.join(entries)}{did_you_mean(name, entries)}")
        if colon and not entries[name].argument:
            raise BadOption(f"{self.what} {spec}: {name} takes no argument")
        if entries[name].required and not argument:
            raise BadOption(f"{self.what} {spec}: give {entries[name].usage(name)}")
        return entries[name].make, argument if colon else None

    def version(self, spec: str) -> tuple[str, ...]:
        """What results of "NAME" or "NAME:ARGUMENT" depend on besides the text: () for what is built in."""
        entry = self.entries().get(spec.partition(":")[0])
        return (entry.version,) if entry is not None and entry.version else ()

    def help(self) -> str:
        """The choices for `--help`: "loftr (what it is), sequential[:N] (what it is)"."""
        return ", ".join(f"{entry.usage(name)} ({entry.help})" for name, entry in self.entries().items())


@cache
def _entries_of(group: str) -> dict[str, Entry[Any]]:
    """Entries that installed packages add to a group; one that cannot be loaded is left out with a warning."""
    found: dict[str, Entry[Any]] = {}
    for point in metadata.entry_points(group=group):
        try:
            entry = point.load()
        except Exception as error:
            log.warning("%s %s (%s): cannot be loaded, left out: %s", group, point.name, point.value, one_line(error))
            continue
        if isinstance(entry, Entry):
            found[point.name] = entry
        else:
            log.warning("%s %s (%s): is not a sfm.registry.Entry, left out", group, point.name, point.value)
    return found
