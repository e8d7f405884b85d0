"""What must hold of the code without a test: style, types, import directions, sizes, packages, light imports.

`python .ci/check.py` runs every check, `python .ci/check.py style sizes` those that are named. Continuous integration
and pre-commit call this file and nothing else. Exit code 0 when all hold.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("sfm", "matchers", "weights", "datasets")  # what the distribution installs
BESIDE = ("matchers", "weights", "datasets")  # installed as sfm.matchers, ... by setuptools' package-dir
LINES_A_FILE, LINES_A_FUNCTION, MODULES_A_PACKAGE = 400, 60, 12

# Loading a module must not load these: a command line that only prints its help should not wait for torch.
HEAVY = {
    "sfm": ("torch", "open3d", "pycolmap", "numpy", "scipy"),
    "sfm.cli.main": ("torch", "open3d", "pycolmap", "numpy", "scipy"),
    "sfm.pipeline.run": ("torch", "open3d"),
    "sfm.weights": ("torch", "open3d"),
    "sfm.datasets": ("torch", "open3d"),
}


def run(*command: str, cwd: Path = ROOT) -> list[str]:
    """Runs a tool of this interpreter; its output where it failed, as lines."""
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)
    output = f"{done.stdout}{done.stderr}".strip() or f"{command[1]}: exit code {done.returncode}"
    return [] if done.returncode == 0 else output.splitlines()


@contextmanager
def installed_tree() -> Iterator[Path]:
    """A folder with sfm/ as an installation has it, matchers/, weights/ and datasets/ inside: mypy and import-linter
    read folders and do not know setuptools' package-dir. Links; copies where links are not allowed."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "sfm"
        package.mkdir()
        inside = [path for path in (ROOT / "sfm").iterdir() if path.name != "__pycache__"]
        for path in [*inside, *(ROOT / name for name in BESIDE)]:
            try:
                (package / path.name).symlink_to(path)
            except OSError:
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, package / path.name)
        yield Path(folder)


def style() -> list[str]:
    """ruff: lint and format."""
    return run("-m", "ruff", "check", "--output-format", "concise", ".") + run("-m", "ruff", "format", "--check", ".")


def types() -> list[str]:
    """mypy, strict, over what is installed."""
    cache = ROOT / ".mypy_cache" / "as_installed"
    with installed_tree() as tree:
        found = run(
            "-m",
            "mypy",
            "--config-file",
            str(ROOT / "pyproject.toml"),
            "--cache-dir",
            str(cache),
            "-p",
            "sfm",
            cwd=tree,
        )
    for name in BESIDE:
        found = [line.replace(f"sfm/{name}/", f"{name}/") for line in found]
    return found


def imports() -> list[str]:
    """import-linter: the contracts in pyproject.toml."""
    code = "import sys; from importlinter.cli import lint_imports; "
    code += "sys.exit(lint_imports(config_filename=sys.argv[1], no_cache=True, no_logo=True))"
    with installed_tree() as tree:
        return run("-c", code, str(ROOT / "pyproject.toml"), cwd=tree)


def sizes() -> list[str]:
    """Lines a file, lines a function, modules a package."""
    found = []
    for path, tree in python_files(*PRODUCT, "benchmarks"):
        lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        if lines > LINES_A_FILE:
            found.append(f"{path}: {lines} lines, more than {LINES_A_FILE}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > LINES_A_FUNCTION:
                    found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines, more than {LINES_A_FUNCTION}")
    for folder in PRODUCT:
        for init in (ROOT / folder).rglob("__init__.py"):
            modules = [path for path in init.parent.glob("*.py") if path != init]
            if len(modules) > MODULES_A_PACKAGE:
                name = init.parent.relative_to(ROOT)
                found.append(f"{name}: {len(modules)} modules, more than {MODULES_A_PACKAGE}")
    return found


def packages() -> list[str]:
    """Every folder of modules is in pyproject.toml's list, or a wheel would lack it."""
    listed = re.search(r"^packages = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)
    named = set(re.findall(r'"([\w.]+)"', listed[1] if listed else ""))
    inits = [path.parent.relative_to(ROOT) for folder in PRODUCT for path in (ROOT / folder).rglob("__init__.py")]
    there = {".".join(("sfm", *path.parts) if path.parts[0] in BESIDE else path.parts) for path in inits}
    found = [f"pyproject.toml: packages lacks {name}" for name in sorted(there - named)]
    return found + [f"pyproject.toml: there is no package {name}" for name in sorted(named - there)]


def light() -> list[str]:
    """What is loaded at once by an import that should be quick."""
    found = []
    for module, heavy in HEAVY.items():
        code = f"import sys, {module}; print(*(name for name in {heavy} if name in sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode or done.stdout.strip():
            found.append(f"import {module} loads {done.stdout.strip()}{done.stderr}")
    return found


def python_files(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    """Path below the checkout and syntax tree of each file."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


CHECKS: dict[str, Callable[[], list[str]]] = {
    "style": style,
    "types": types,
    "imports": imports,
    "sizes": sizes,
    "packages": packages,
    "light": light,
}


def main() -> int:
    """Runs the named checks, or all; 1 when one of them finds something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"any of {', '.join(CHECKS)} (default: all)")
    chosen = parser.parse_args().checks or list(CHECKS)
    if unknown := set(chosen) - set(CHECKS):
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    failed = False
    for name in chosen:
        begun = time.monotonic()
        found = CHECKS[name]()
        failed |= bool(found)
        print(f"{name:9}{'FAILED' if found else 'passed'} in {time.monotonic() - begun:.1f} s", *found, sep="\n  ")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
