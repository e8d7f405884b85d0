"""Documents name files, commands and options that exist."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from sfm.cli import main as cli
from sfm.cli.verbs.evaluate import FORMS
from tests.support.folders import ROOT

DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "weights/README.md")
    if path.name != "CHANGELOG.md"  # history names what is gone
)
FOLDERS = ("sfm", "matchers", "weights", "datasets", "tests", "benchmarks", "docs", ".ci", ".github")
PROGRAM = "loftr-sfm"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
OPTION = re.compile(r"--[a-z][a-z0-9-]*")


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def document(request) -> Path:
    return request.param


def commands(text: str) -> Iterator[str]:
    """Code spans, and the lines of shell blocks with their continuations, cut at `&&` and comments."""
    blocks = [block for language, block in FENCE.findall(text) if language in ("bash", "")]
    spans = SPAN.findall(FENCE.sub("", text))
    for line in [*spans, *"\n".join(blocks).replace("\\\n", " ").splitlines()]:
        for part in line.split("&&"):
            yield part.partition("  #")[0].strip()


@cache
def help_of(verb: str) -> str:
    """What `loftr-sfm VERB --help` prints, with the help of `evaluate`'s forms."""
    found = io.StringIO()
    for words in [[form, "--help"] for form in FORMS] if verb == "evaluate" else [["--help"]]:
        with redirect_stdout(found), pytest.raises(SystemExit):
            cli.parser_of(verb).parse_args(words)
    return found.getvalue()


def unknown_options(command: str, known: str) -> list[str]:
    """Options of a command that a help text does not list."""
    return [option for option in OPTION.findall(command) if not re.search(re.escape(option) + r"(?![\w-])", known)]


def test_links_lead_to_files(document):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_paths_exist(document):
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(rf"(?<![\w./-])((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*\w)", text))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_modules_exist(document):
    text = document.read_text(encoding="utf-8")
    named = {name.rstrip(".") for name in re.findall(r"\bbenchmarks\.[a-z_.]+", text)}
    assert sorted(name for name in named if not (ROOT / (name.replace(".", "/") + ".py")).exists()) == []


def test_pytest_commands_select_tests(document):
    """Names after -k are in one of the files that the command names."""
    wrong = []
    for command in commands(document.read_text(encoding="utf-8")):
        if not re.search(r"\bpytest .*-k ", command):
            continue
        words = shlex.split(command)
        files = [ROOT / word for word in words if word.startswith("tests/")]
        text = "\n".join(path.read_text(encoding="utf-8") for path in files)
        chosen = words[words.index("-k") + 1]
        names = set(re.findall(r"\w+", chosen)) - {"and", "or", "not"}
        wrong += [f"{command}: {name}" for name in names if not re.search(rf"def test_\w*{name}", text, re.IGNORECASE)]
    assert wrong == []


def test_commands_parse(document):
    """Verbs and options are those of the program's own help."""
    wrong = []
    for command in commands(document.read_text(encoding="utf-8")):
        words = command.split()
        if not words:
            continue
        if words[0].rpartition("/")[2] == PROGRAM:
            words = words[1:]
        elif words[:2] == ["python", "reconstruct.py"]:
            words = words[2:]
        elif words[0] not in cli.VERBS:
            if words[0].startswith("--") and unknown_options(command, all_help()):
                wrong.append(command)
            continue
        verb = words[0] if words and words[0] in cli.VERBS else ""
        wrong += [f"{command}: {option}" for option in unknown_options(command, help_of(verb))]
        if not verb and len(words) == 1 and re.fullmatch("[a-z]+", words[0]):
            wrong.append(f"{command}: no such verb")
    assert wrong == []


def all_help() -> str:
    """Every option of the program, of the benchmarks and of the tests."""
    texts = [help_of(verb) for verb in ("", *cli.VERBS)]
    return "\n".join(
        [*texts, *(path.read_text(encoding="utf-8") for path in ROOT.glob("benchmarks/*.py")), "--all", "--ignore"]
    )


def test_benchmarks_have_their_options(document):
    wrong = []
    for command in commands(document.read_text(encoding="utf-8")):
        for name in re.findall(r"python -m benchmarks\.(\w+)", command):
            source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
            wrong += [f"{command}: {option}" for option in unknown_options(command, source)]
    assert wrong == []


def test_python_examples_import_what_exists(document):
    for language, block in FENCE.findall(document.read_text(encoding="utf-8")):
        lines = [line for line in block.splitlines() if re.match(r"(from sfm|import sfm)", line)]
        if language == "python" and lines:
            exec("\n".join(lines), {})
