"""Choices by name, ours and those of other packages."""

from __future__ import annotations

import logging
from importlib import metadata

import pytest

from sfm import registry
from sfm.errors import BadOption
from sfm.registry import Entry, Registry

ENTRY = Entry("from elsewhere", lambda argument: ("elsewhere", argument), argument="N")
NO_ENTRY = "a string"
VERSIONED = Entry("from elsewhere", None, version="2")


def things(group: str, *, joined: bool = False) -> Registry:
    """A registry of two things of ours. Entry points are read once for each group."""
    of_a_kind = Entry("of a kind", lambda argument: ("sort", argument), argument="KIND", required=True)
    plain = Entry("ours", lambda argument: ("plain", argument))
    return Registry("--thing", group, {"plain": plain, "sort": of_a_kind}, joined=joined)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """install(name="module:attribute", ...): as if packages with these entry points were installed."""

    def install(**points: str) -> None:
        found = [metadata.EntryPoint(name, value, "any") for name, value in points.items()]
        monkeypatch.setattr(registry.metadata, "entry_points", lambda group: found)

    return install


def test_ours_come_first_and_are_never_replaced(install) -> None:
    install(plain=f"{__name__}:ENTRY", other=f"{__name__}:ENTRY")
    registry = things("replaced")
    assert list(registry.entries()) == ["plain", "sort", "other"]
    assert registry.choose("plain")[0](None) == ("plain", None)
    make, argument = registry.choose("other:7")
    assert make(argument) == ("elsewhere", "7")
    assert registry.help() == "plain (ours), sort:KIND (of a kind), other[:N] (from elsewhere)"


def test_what_cannot_be_loaded_is_left_out_with_a_warning(install, caplog: pytest.LogCaptureFixture) -> None:
    install(gone="no_such_module_anywhere:X", wrong=f"{__name__}:NO_ENTRY")
    with caplog.at_level(logging.WARNING):
        assert list(things("left out").entries()) == ["plain", "sort"]
    assert "gone" in caplog.text
    assert "is not a sfm.registry.Entry" in caplog.text


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "--thing nothing: choose one of plain"),
        ("plain:3", "--thing plain:3: plain takes no argument"),
        ("sort", "--thing sort: give sort:KIND"),
        ("sort:", "--thing sort:: give sort:KIND"),
    ],
)
def test_unknown_names_and_arguments_are_refused(spec: str, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        things("refused").choose(spec)


def test_an_empty_name_beside_others_is_said() -> None:
    with pytest.raises(BadOption, match=r"--thing \+plain: a name is empty; choose one of plain, sort"):
        things("joined", joined=True).parts("+plain")
    assert things("joined", joined=True).parts("plain+sort:x") == ("plain", "sort:x")


def test_results_depend_on_the_version_of_an_entry(install) -> None:
    install(other=f"{__name__}:VERSIONED")
    registry = things("versions")
    assert registry.version("plain") == registry.version("a file") == ()
    assert registry.version("other:7") == ("2",)
