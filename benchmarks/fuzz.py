"""Fuzzes every reader of files from strangers: python -m benchmarks.fuzz [--minutes 10] [--only READER ...].

Small whole files are changed in some bytes or words and read in a process with limits on memory and time. A broken
file may be read, or refused by an SfMError of one line; any other exception, the end of the process, more than SECONDS
or more than MEMORY_MB is a failure. The changed file is kept as OUT/READER/FILE--NUMBER, one for each place in the code
where it fails; tests/hostile/corpus holds those of the past. Needs fork (not Windows).
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzz_readers import READERS, Reader
from sfm.errors import SfMError
from sfm.system.machine import peak_mb, reset_peak

ROOT = Path(__file__).resolve().parent.parent
SECONDS, WAITING = 10, 60  # of the processor and of the clock for one file; whole ones take less than one
MEMORY_MB = 1024  # that one file may add
ADDRESS_SPACE = 6 << 30  # bytes that one process may add
LARGE = 1 << 20  # bytes; a file that has grown so much is not changed again
BATCH = 200  # files that one process reads
READ, REFUSED = "read", "refused"
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


# --- the process that reads -----------------------------------------------------------------------


def guarded(action: Callable[[], str]) -> str:
    """What an action says in a process of its own within the limits, or how that ended ("ended by signal 9")."""
    receive, send = os.pipe()
    if (child := os.fork()) == 0:
        os.close(receive)
        gc.freeze()  # or collecting garbage would copy every page of what the parent holds
        try:
            limit()
            os.write(send, action().encode("utf-8", "replace")[:4000])
        except BaseException:  # ours
            os.write(send, traceback.format_exc().encode("utf-8", "replace")[-4000:])
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    status = os.waitpid(child, 0)[1]
    return f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said or "no answer"


def limit() -> None:
    """This process may not take much more address space than it has, and ends when its alarm rings."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESS_SPACE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for alarm in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(alarm, signal.SIG_DFL)
    set_alarm()
    for stream in (1, 2):  # COLMAP's complaints
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def set_alarm() -> None:
    """This process ends after SECONDS of its own, or WAITING of the clock's: others may keep the processor busy."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WAITING)


def attempt(read: Callable[[Path], object], folder: Path) -> str:
    """READ or REFUSED where reading a folder went as promised, else what is wrong and where."""
    reset_peak()
    before, said = peak_mb(), READ
    try:
        read(folder)
    except SfMError as error:
        if len(str(error).splitlines()) != 1 or str(folder) not in str(error):
            return f"not one line that names a file: {error!r}"
        if _memory_ended(error):
            return f"memory ended: {error}"
        said = REFUSED
    except Exception as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT / "sfm") in f.filename] or [None]
        where = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours[-1] else ""
        return f"{type(error).__name__}{where}: {str(error)[:200]}"
    grown = peak_mb() - before
    return f"memory: {grown:.0f} MB" if grown > MEMORY_MB else said


def _memory_ended(error: BaseException | None) -> bool:
    """Whether an error comes from an allocation that the limit refused: without one it might have been made."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


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


def replay(name: str, path: Path, place: Path) -> str:
    """Reads a kept file as fuzzing does: READ, REFUSED, or what is wrong."""
    reader = READERS[name]
    place.mkdir(parents=True, exist_ok=True)
    reader.make(place)
    shutil.copyfile(path, place / path.name.rpartition("--")[0].replace("__", "/"))
    return guarded(lambda: attempt(reader.read, place))


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
