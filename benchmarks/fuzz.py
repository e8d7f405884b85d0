"""Fuzzes every reader of files from strangers: python benchmarks/fuzz.py [--minutes 10] [--only READER ...].

Each reader runs in a process of its own with limits on memory and time, on whole small files of which some bytes
or words were changed. SfMError is the right answer to a broken file, and so is reading it; any other exception, the
end of the process, more than SECONDS or more than MEMORY_MB is a finding. The changed file is kept in
OUT/READER/FILE--SIGNATURE, one for each place in the code; tests/hostile/corpus holds those of the past.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import queue
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import sfm  # noqa: F401
from benchmarks.fuzz_readers import READERS, Reader
from sfm.errors import SfMError
from sfm.machine import peak_mb, reset_peak

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 10.0  # for one file; whole ones take less than one
MEMORY_MB = 1024  # that one file may add
ADDRESS_SPACE = 6 << 30  # bytes
START_S = 60.0  # for imports
NUMBERS = tuple(2**k + d for k in (0, 7, 8, 15, 16, 31, 32, 40, 62, 63) for d in (-1, 0, 1))
WORDS = (
    *("nan", "inf", "-inf", "1e999", "-1", "0", "", "1e-320", "99999999999999999999", "../../x", "/etc/passwd"),
    *(
        "\\u0000",
        "\x00",
        "null",
        "true",
        "[]",
        "{}",
        '""',
        "[[[[",
        '{"a":',
        '"',
        ",",
        "\n",
        "\ufeff",
        "\udc80",
        "é\u2028",
    ),
)
TOKEN = re.compile(rb"[-+.\w]+|[^\s\w]")


# --- changing files -------------------------------------------------------------------------------


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes after one to four random changes."""
    textual = b"\0" not in data[:512]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_TEXT_CHANGES if textual and rng.random() < 0.8 else _BYTE_CHANGES)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
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
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    b = min(b, a + 64)
    at = rng.randrange(len(data) + 1)
    return rng.choice(
        (data[:a] + data[b:], data[:b] + data[a:b] + data[b:], data[:at] + data[a:b] + data[at + b - a :])
    )


def _word(data: bytes, rng: random.Random) -> bytes:
    """A word replaced by one that means trouble, or by another of the file."""
    words = list(TOKEN.finditer(data))
    if not words:
        return rng.choice(WORDS).encode("utf-8", "surrogateescape")
    word = rng.choice(words)
    new = rng.choice(words).group() if rng.random() < 0.3 else rng.choice(WORDS).encode("utf-8", "surrogateescape")
    return data[: word.start()] + new + data[word.end() :]


def _line(data: bytes, rng: random.Random) -> bytes:
    """Lines swapped, left out, doubled or very many."""
    lines = data.splitlines(keepends=True) or [b""]
    at = rng.randrange(len(lines))
    lines[at : at + 1] = [lines[at]] * rng.choice((0, 0, 2, 2, 200))
    rng.random() < 0.2 and rng.shuffle(lines)
    return b"".join(lines)


def _long(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((b"9", b"[", b" ", b"a ", b"-", b'{"a":', b"1.5 ")) * 70_000 + data[at:]


_Change = Callable[[bytes, random.Random], bytes]
_BYTE_CHANGES: tuple[_Change, ...] = (_flip, _flip, _number, _number, _number, _cut, _move)
_TEXT_CHANGES: tuple[_Change, ...] = (_word, _word, _word, _word, _line, _move, _flip, _long)


# --- the process that reads -----------------------------------------------------------------------


def limit_memory() -> None:
    """This process may not take more than ADDRESS_SPACE."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def attempt(reader: Reader, folder: Path) -> str | None:
    """Reads what lies in a folder; None where that went as promised, else what is wrong and where."""
    reset_peak()
    before, started = peak_mb(), time.perf_counter()
    try:
        reader.read(folder)
    except SfMError as error:
        if "\n" in str(error):
            return f"SfMError of several lines: {error!r}"
    except Exception as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename]
        return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}: {str(error)[:200]}"
    if (grown := peak_mb() - before) > MEMORY_MB:
        return f"memory: {grown:.0f} MB"
    seconds = time.perf_counter() - started
    return f"time: {seconds:.0f} s" if seconds > SECONDS else None


def work(name: str, place: Path, seed: int, seconds: float) -> None:
    """Reads changed files for so long; says "> FILE" before each and "! SIGNATURE" after a finding."""
    limit_memory()
    reader, rng, whole, case = READERS[name], random.Random(seed), place / "whole", place / "case"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    reader.make(whole)
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(whole, case)
    attempt(reader, case)  # imports
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        shutil.rmtree(case)
        shutil.copytree(whole, case)
        changed = case / rng.choice(reader.fuzzed)
        changed.write_bytes(mutated(changed.read_bytes(), rng))
        try:
            reader.mend(case)
        except ValueError:
            continue
        shutil.copyfile(changed, place / "input")  # reading may change it
        print(">", changed.relative_to(case), flush=True)
        if (finding := attempt(reader, case)) is not None:
            print("!", " ".join(finding.split()), flush=True)


# --- the process that watches ---------------------------------------------------------------------


def fuzz(name: str, seconds: float, seed: int, out: Path) -> tuple[int, Counter[str]]:
    """Number of files that a reader was given, and how often each finding came."""
    inputs, findings, until = 0, Counter[str](), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        while (left := until - time.monotonic()) > 1:
            seed += 1
            lines, ended = _watched(name, Path(folder), seed, left, out, findings)
            inputs += lines
            if ended is not None:
                _keep(name, Path(folder), ended, out, findings)
    return inputs, findings


def _watched(
    name: str, place: Path, seed: int, seconds: float, out: Path, findings: Counter[str]
) -> tuple[int, str | None]:
    """One process until it ends: its number of inputs, and what is wrong where it was ended or ended itself."""
    command = [sys.executable, __file__, "--worker", name, str(place), str(seed), str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOG_minloglevel": "3"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, errors="replace"
    ) as child:
        said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_listen, args=(child, said), daemon=True).start()
        inputs = 0
        while True:
            try:
                line = said.get(timeout=2 * SECONDS if inputs else START_S)
            except queue.Empty:
                child.kill()
                return inputs, f"hang of more than {2 * SECONDS:.0f} s"
            if line is None:
                break
            inputs += line.startswith(">")
            if line.startswith(">"):
                (place / "name").write_text(line[2:].strip())
            elif line.startswith("!"):
                _keep(name, place, line[2:].strip(), out, findings)
    return inputs, None if child.returncode == 0 else f"the process ended with {child.returncode}"


def _listen(child: subprocess.Popen[str], said: queue.Queue[str | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        said.put(line)
    said.put(None)


def _keep(name: str, place: Path, finding: str, out: Path, findings: Counter[str]) -> None:
    """Keeps the input of a finding, the first of its kind. (The reader may be ahead: then it is another of its kind.)"""
    kind = finding.split(": ")[0]
    findings[kind] += 1
    if findings[kind] > 1 or not (place / "name").exists():
        return
    file = (place / "name").read_text().replace("/", "__")
    target = out / name / f"{file}--{hashlib.sha256(kind.encode()).hexdigest()[:8]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(place / "input", target)
    print(f"{name}: {finding}\n    {target}", flush=True)


def replay(name: str, path: Path, place: Path) -> str | None:
    """Reads a kept file as a worker does; what is wrong, or None."""
    reader = READERS[name]
    place.mkdir(parents=True)
    reader.make(place)
    shutil.copyfile(path, place / path.name.rpartition("--")[0].replace("__", "/"))
    return attempt(reader, place)


def main() -> None:
    """Shares the time among the readers, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of all readers together (default: 10)")
    parser.add_argument("--only", nargs="+", choices=READERS, default=list(READERS), help="these readers")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="(default: the time)")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="folder of findings")
    args = parser.parse_args()
    rows = []
    for name in args.only:
        inputs, findings = fuzz(name, args.minutes * 60 / len(args.only), args.seed, args.out)
        rows.append(f"| {name} | {inputs:,} | {'; '.join(f'{k} ({n})' for k, n in findings.items()) or 'none'} |")
        print(rows[-1], flush=True)
    print("\n| reader | files | findings |\n| --- | ---: | --- |", *rows, sep="\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
