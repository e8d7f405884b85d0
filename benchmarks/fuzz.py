"""Fuzzes every reader of files from strangers: python -m benchmarks.fuzz [--minutes 10] [--only READER ...].

Small whole files are changed in some bytes or words and read in a process with limits on memory and time. A broken
file may be read, or refused by an SfMError of one line; any other exception, the end of the process, or more time or
memory than tests/support/read_limits.py allows is a failure. The changed file is kept as OUT/READER/FILE--NUMBER, one
for each place in the code where it fails; tests/hostile/corpus holds those of the past. Needs fork (not Windows).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.hostile_readers import READERS, Reader
from tests.support.read_limits import READ, REFUSED, attempt, guarded, set_alarm

LARGE = 1 << 20  # bytes; a file that has grown so much is not changed again
BATCH = 200  # files that one process reads
NUMBERS = tuple(2**k + d for k in (0, 7, 8, 15, 16, 31, 32, 40, 62, 63) for d in (-1, 0, 1))
WORDS = (
    *(
        "",
        "0",
        "-1",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1e-320",
        "9" * 20,
        "null",
        "true",
        "[]",
        "{}",
        '""',
        "[[[[",
        '{"a":',
    ),
    *("../../x", "/etc/passwd", "\\u0000", "\0", "\n", ",", '"', "\ufeff", "\udc80", "é\u2028"),
)
TOKEN = re.compile(rb"[-+.\w]+|[^\s\w]")
Change = Callable[[bytes, random.Random], bytes]


# --- changing files -------------------------------------------------------------------------------


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes after one to four random changes."""
    textual = b"\0" not in data[:512]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if len(data) < LARGE:
            data = rng.choice(TEXT_CHANGES if textual and rng.random() < 0.8 else BYTE_CHANGES)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _number(data: bytes, rng: random.Random) -> bytes:
    """A number of 1 to 8 bytes that means trouble, at a place where one may stand."""
    size = rng.choice((1, 2, 4, 8, 8))
    at = rng.randrange(max(len(data) - size, 1))
    value = (rng.choice(NUMBERS) % 256**size).to_bytes(size, "little")
    return data[:at] + value + data[at + size :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _move(data: bytes, rng: random.Random) -> bytes:
    """A piece taken out, doubled or put elsewhere."""
    start, at = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    piece = data[start : start + rng.randrange(1, 64)]
    end = start + len(piece)
    return rng.choice(
        (data[:start] + data[end:], data[:end] + piece + data[end:], data[:at] + piece + data[at + len(piece) :])
    )


def _word(data: bytes, rng: random.Random) -> bytes:
    """A word replaced by one that means trouble, or by another of the file."""
    words = list(TOKEN.finditer(data)) or [re.match(b"", data)]
    word = rng.choice(words)
    assert word is not None
    new = rng.choice(words) if rng.random() < 0.3 else None
    put = rng.choice(WORDS).encode("utf-8", "surrogatepass") if new is None else new.group()
    return data[: word.start()] + put + data[word.end() :]


def _line(data: bytes, rng: random.Random) -> bytes:
    """Lines swapped, left out, doubled or very many."""
    lines = data.splitlines(keepends=True) or [b""]
    at = rng.randrange(len(lines))
    lines[at : at + 1] = [lines[at]] * rng.choice((0, 0, 2, 2, 200))
    return b"".join(rng.sample(lines, len(lines)) if rng.random() < 0.2 else lines)


def _long(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((b"9", b"[", b" ", b"a ", b"-", b'{"a":', b"1.5 ")) * 70_000 + data[at:]


BYTE_CHANGES: tuple[Change, ...] = (_flip, _flip, _number, _number, _number, _cut, _move)
TEXT_CHANGES: tuple[Change, ...] = (_word, _word, _word, _word, _line, _move, _flip, _long)


# --- fuzzing --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What came of the files that a reader was given; failures by kind."""

    inputs: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)


def fuzz(name: str, seconds: float, seed: int, out: Path) -> Tally:
    """Gives a reader changed files for so long. Failures are kept in a folder."""
    tally, reader, until = Tally(), READERS[name], time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        place = Path(folder)
        (place / "whole").mkdir()
        reader.make(place / "whole")
        _warm(reader, place)
        while time.monotonic() < until:
            seed += 1
            said = guarded(lambda: _batch(reader, place, random.Random(seed), until))  # noqa: B023
            _count(name, place, said, out, tally)
    return tally


def _warm(reader: Reader, place: Path) -> None:
    """Imports happen once, here. Whole files must be read, or refused: the weights are no whole network."""
    shutil.copytree(place / "whole", place / "case")
    said = attempt(reader.read, place / "case")
    if said not in (READ, REFUSED):
        raise RuntimeError(f"whole files: {said}")


def _batch(reader: Reader, place: Path, rng: random.Random, until: float) -> str:
    """Reads changed files until one is a failure; for each so far "read" or "refused", and the failure at the end."""
    told = place / "told"
    told.write_text("")
    for _ in range(BATCH):
        changed = _changed(reader, place, rng)
        if changed is None:
            continue
        set_alarm()
        said = attempt(reader.read, place / "case")
        if said not in (READ, REFUSED):
            return said
        with told.open("a") as file:
            file.write(said + "\n")
        if time.monotonic() > until:
            break
    return ""


def _changed(reader: Reader, place: Path, rng: random.Random) -> Path | None:
    """A changed file in place/case, and kept in place/input with its name in place/name; None if it makes no sense."""
    shutil.rmtree(place / "case")
    shutil.copytree(place / "whole", place / "case", symlinks=True)
    changed = place / "case" / rng.choice(reader.fuzzed)
    changed.write_bytes(mutated(changed.read_bytes(), rng))
    try:
        reader.mend(place / "case")
    except Exception:
        return None
    shutil.copyfile(changed, place / "input")  # reading may change it
    (place / "name").write_text(str(changed.relative_to(place / "case")).replace("/", "__"))
    return changed


def _count(name: str, place: Path, said: str, out: Path, tally: Tally) -> None:
    """Adds a batch; the first input of each kind of failure is kept."""
    told = (place / "told").read_text().split()
    tally.inputs += len(told)
    tally.refused += told.count(REFUSED)
    if said == "no answer":  # all of the batch went well
        return
    tally.inputs += 1
    kind = said.split(": ")[0]
    tally.failures[kind] += 1
    if tally.failures[kind] == 1:
        number = hashlib.sha256(kind.encode()).hexdigest()[:8]
        target = out / name / f"{(place / 'name').read_text()}--{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place / "input", target)
        print(f"{name}: {' '.join(said.split())}\n    {target}", flush=True)


def main() -> None:
    """Shares the time among the readers, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of all readers together (default: 10)")
    parser.add_argument("--only", nargs="+", choices=READERS, default=list(READERS), help="these readers")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="(default: the time)")
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"), help="folder of what fails")
    args = parser.parse_args()
    rows = []
    for name in args.only:
        tally = fuzz(name, args.minutes * 60 / len(args.only), args.seed, args.out)
        kinds = "; ".join(f"{kind} ({num})" for kind, num in tally.failures.items())
        accepted = tally.inputs - tally.refused - tally.failures.total()
        rows.append(f"| {name} | {tally.inputs:,} | {tally.refused:,} | {accepted:,} | {kinds or 'none'} |")
        print(rows[-1], flush=True)
    print(
        f"\nseed {args.seed}\n| reader | inputs | refused | accepted | failures |\n| --- | ---: | ---: | ---: | --- |"
    )
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
