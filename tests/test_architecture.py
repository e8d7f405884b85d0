"""Who may import whom: lower layers never import upper ones, stages never import stages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("sfm", "matchers", "weights", "datasets")

# Modules that may be imported, by module or package; every module may import those of BASE.
BASE = {"sfm", "sfm.errors", "sfm.types", "sfm.untrusted"}
STORES = {"sfm.database", "sfm.columns", "sfm.schema", "sfm.match_table", "sfm.verified_parts", "sfm.journal"} | {
    "sfm.heap_check"
}
STAGE_MODULES = {"sfm.pairs", "sfm.matching", "sfm.verification", "sfm.tracks", "sfm.mapping", "sfm.refinement"}
LAYER_0 = {
    "sfm.options",
    "sfm.progress",
    "sfm.memory",
    "sfm.thinning",
    "sfm.text_table",
    "sfm.result_log",
    "sfm.workers",
}
LAYER_1 = LAYER_0 | {"sfm.geometry", "sfm.matchers", "sfm.pose_metrics"}
LAYER_2 = (
    LAYER_1
    | STORES
    | {
        "sfm.images",
        "sfm.photo_search",
        "sfm.upright_photos",
        "sfm.cameras",
        "sfm.feature_cache",
        "sfm.turns",
        "sfm.focal",
        "sfm.colmap_database",
    }
    | {
        "sfm.colmap_log",
        "sfm.model_reading",
        "sfm.model_files",
        "sfm.mapper",
        "sfm.agreement",
        "sfm.attempts",
        "sfm.known_poses",
    }
    | {"sfm.intrinsics_posterior", "sfm.calibration"}
    | {"sfm.model_columns", "sfm.track_geometry", "sfm.patch_alignment", "sfm.track_alignment", "sfm.bundle"}
    | {"sfm.refined", "sfm.track_completion", "sfm.weights", "sfm.datasets", "sfm.pair_geometry", "sfm.matcher_choice"}
)
LAYER_3 = LAYER_2 | STAGE_MODULES | {"sfm.evaluation", "sfm.export", "sfm.hloc", "sfm.summary"}
JUDGING = {"sfm.pair_judging", "sfm.pair_truth", "sfm.pair_evaluation"}
LAYER_4 = (
    LAYER_3
    | JUDGING
    | {"sfm.challenge"}
    | {"sfm.stages", "sfm.pipeline", "sfm.comparison", "sfm.demo", "sfm.training", "sfm.views"}
)

# What draws scenes, lower rooms first; the last three are Open3D's window.
DRAWN = [f"sfm.views.{name}" for name in ("viewpoint", "shapes", "drawing", "state", "photos", "stills", "exhibit")]
WINDOW = [f"sfm.views.{name}" for name in ("stage", "panel", "window")]

MAY_IMPORT: dict[str, set[str]] = {
    "sfm": set(),
    "sfm.errors": set(),
    "sfm.machine": set(),
    "sfm.untrusted": set(),
    "sfm.heap_check": set(),
    "sfm.model_reading": {"sfm.colmap_log"},
    "sfm.memory": set(),
    "sfm.thinning": set(),
    "sfm.types": set(),
    "sfm.options": set(),
    "sfm.progress": set(),
    "sfm.workers": set(),
    "sfm.interrupts": set(),
    "sfm.text_table": set(),
    "sfm.result_log": set(),
    "sfm.geometry": set(),
    "sfm.pose_metrics": {"sfm.geometry"},
    "sfm.matchers": {"sfm.matchers", "sfm.workers"},
    "sfm.matcher_choice": LAYER_1 | {"sfm.weights"},
    "sfm.pair_geometry": LAYER_1,
    "sfm.cameras": LAYER_0,
    "sfm.feature_cache": {"sfm.matchers"},
    "sfm.turns": set(),
    "sfm.focal": LAYER_1,
    "sfm.intrinsics_posterior": set(),
    "sfm.calibration": {"sfm.intrinsics_posterior"},
    "sfm.colmap_database": LAYER_0,
    "sfm.colmap_log": set(),
    "sfm.model_files": LAYER_0 | {"sfm.model_reading"},
    "sfm.mapper": LAYER_1 | {"sfm.colmap_database", "sfm.colmap_log", "sfm.model_files"},
    "sfm.agreement": LAYER_1,
    "sfm.attempts": LAYER_1 | {"sfm.mapper", "sfm.agreement", "sfm.focal", "sfm.colmap_log"},
    "sfm.parallax": {"sfm.model_columns"},
    "sfm.verdict": LAYER_1 | {"sfm.mapper", "sfm.agreement", "sfm.calibration", "sfm.model_columns", "sfm.parallax"},
    "sfm.known_poses": LAYER_1 | {"sfm.mapper", "sfm.colmap_log", "sfm.model_reading"},
    "sfm.model_columns": set(),
    "sfm.track_geometry": {"sfm.model_columns"},
    "sfm.patch_alignment": set(),
    "sfm.track_alignment": LAYER_0
    | {"sfm.model_columns", "sfm.track_geometry", "sfm.patch_alignment", "sfm.matchers.cores"},
    "sfm.bundle": set(),
    "sfm.refined": {"sfm.model_files", "sfm.model_reading"},
    "sfm.track_completion": LAYER_1 | {"sfm.model_columns", "sfm.mapper", "sfm.attempts", "sfm.colmap_log"},
    "sfm.photo_search": set(),
    "sfm.upright_photos": {"sfm.cameras", "sfm.images"},
    "sfm.images": LAYER_0 | {"sfm.cameras", "sfm.photo_search"},
    "sfm.columns": LAYER_0 | STORES,
    "sfm.schema": LAYER_0 | STORES,
    "sfm.match_table": LAYER_0 | STORES,
    "sfm.verified_parts": LAYER_0 | STORES,
    "sfm.journal": LAYER_0 | STORES,
    "sfm.database": LAYER_0 | STORES,
    "sfm.weights": LAYER_1 | {"sfm.weights"},
    "sfm.datasets": LAYER_1 | {"sfm.datasets", "sfm.model_reading"},
    **dict.fromkeys(STAGE_MODULES, LAYER_2),
    "sfm.evaluation": LAYER_2,
    "sfm.pair_judging": LAYER_2 | {"sfm.matching"},
    "sfm.pair_truth": LAYER_2 | {"sfm.pairs", "sfm.evaluation"},
    "sfm.pair_evaluation": LAYER_2 | JUDGING | {"sfm.evaluation"},
    "sfm.challenge": LAYER_2 | JUDGING,
    "sfm.hloc": LAYER_2,
    "sfm.summary": LAYER_2 | {"sfm.hloc", "sfm.machine"},
    "sfm.comparison": LAYER_2 | {"sfm.evaluation"},
    "sfm.export": LAYER_2 | {"sfm.evaluation", "sfm.hloc", "sfm.mapping"},
    "sfm.views": set(),
    "sfm.two_view": LAYER_2,
    "sfm.views.canvas": set(),
    "sfm.views.figures": LAYER_1 | {"sfm.two_view", "sfm.views"},
    "sfm.views.network_figures": LAYER_1 | {"sfm.views"},
    "sfm.views.match_folder": LAYER_2 | {"sfm.two_view", "sfm.views"},
    "sfm.views.scene": LAYER_1 | {"sfm.evaluation", "sfm.views.bulk"},
    "sfm.views.bulk": set(),
    **{module: {"sfm.evaluation", "sfm.progress", "sfm.images", "sfm.views"} for module in DRAWN + WINDOW},
    "sfm.views.viewer": {"sfm.summary", "sfm.views"},
    "sfm.views.packing": set(),
    "sfm.views.report_parts": LAYER_2,
    "sfm.views.report": LAYER_2 | {"sfm.views", "sfm.evaluation", "sfm.summary"},
    "sfm.views.report_compare": LAYER_2 | {"sfm.views", "sfm.evaluation", "sfm.summary", "sfm.comparison"},
    "sfm.stages": LAYER_3,
    "sfm.pipeline": LAYER_3 | {"sfm.stages", "sfm.views", "sfm.machine", "sfm.verdict"},
    "sfm.demo": LAYER_2 | {"sfm.evaluation"},
    "sfm.training": LAYER_2,
    "sfm.parsing": LAYER_0,
    "sfm.verbs": LAYER_4 | {"sfm.parsing", "sfm.interrupts"},
    "sfm.cli": LAYER_4 | {"sfm.memory", "sfm.parsing", "sfm.verbs", "sfm.interrupts"},
}

NUMPY = {"numpy"}
THIRD_PARTY: dict[str, set[str]] = {
    "sfm.types": NUMPY,
    "sfm.geometry": NUMPY,
    "sfm.pose_metrics": NUMPY,
    "sfm.progress": {"tqdm"},
    "sfm.cli": {"tqdm"},
    "sfm.matchers": NUMPY | {"torch", "einops", "safetensors"},
    "sfm.matchers.sift": NUMPY | {"torch", "pycolmap"},
    "sfm.cameras": NUMPY | {"PIL", "pycolmap"},
    "sfm.turns": NUMPY,
    "sfm.thinning": NUMPY,
    "sfm.focal": NUMPY | {"pycolmap"},
    "sfm.intrinsics_posterior": NUMPY | {"pycolmap"},
    "sfm.calibration": NUMPY | {"pycolmap"},
    "sfm.colmap_database": NUMPY | {"pycolmap"},
    "sfm.images": NUMPY | {"PIL"},
    "sfm.columns": NUMPY | {"h5py"},
    "sfm.schema": NUMPY,
    "sfm.match_table": NUMPY | {"h5py"},
    "sfm.verified_parts": {"h5py"},
    "sfm.database": NUMPY | {"h5py"},
    "sfm.hloc": NUMPY | {"h5py"},
    "sfm.weights": {"torch", "safetensors", "platformdirs", "tqdm"},
    "sfm.datasets": NUMPY | {"pycolmap", "PIL", "open3d", "scipy", "torch"},
    "sfm.tracks": NUMPY | {"scipy"},
    "sfm.pair_geometry": NUMPY | {"pycolmap"},
    "sfm.mapping": NUMPY | {"pycolmap"},
    "sfm.mapper": NUMPY | {"pycolmap"},
    "sfm.agreement": NUMPY | {"pycolmap"},
    "sfm.attempts": {"pycolmap"},
    "sfm.parallax": NUMPY,
    "sfm.verdict": NUMPY | {"pycolmap"},
    "sfm.known_poses": NUMPY | {"pycolmap"},
    "sfm.model_files": NUMPY | {"pycolmap"},
    "sfm.model_columns": NUMPY | {"pycolmap"},
    "sfm.track_geometry": NUMPY | {"scipy"},
    "sfm.patch_alignment": NUMPY | {"torch"},
    "sfm.track_alignment": NUMPY | {"torch"},
    "sfm.bundle": NUMPY | {"pycolmap", "pyceres"},
    "sfm.track_completion": NUMPY | {"pycolmap"},
    "sfm.refinement": NUMPY | {"pycolmap"},
    "sfm.refined": NUMPY | {"pycolmap"},
    "sfm.colmap_log": {"pycolmap", "pyceres"},
    "sfm.model_reading": NUMPY | {"pycolmap"},
    "sfm.untrusted": NUMPY,
    "sfm.evaluation": NUMPY | {"pycolmap"},
    "sfm.pair_judging": NUMPY,
    "sfm.pair_truth": NUMPY | {"pycolmap"},
    "sfm.pair_evaluation": NUMPY | {"pycolmap"},
    "sfm.challenge": NUMPY | {"pycolmap"},
    "sfm.comparison": NUMPY,
    "sfm.export": NUMPY | {"pycolmap"},
    "sfm.upright_photos": {"PIL"},
    "sfm.views.bulk": NUMPY | {"pycolmap"},
    "sfm.views.scene": NUMPY | {"pycolmap"},
    **{module: NUMPY | {"PIL"} for module in DRAWN},
    **{module: NUMPY | {"open3d"} for module in WINDOW},
    "sfm.views.viewer": {"platformdirs"},
    "sfm.views.packing": NUMPY | {"PIL"},
    "sfm.views.report_parts": NUMPY,
    "sfm.views.report_compare": NUMPY,
    "sfm.training": NUMPY | {"torch"},
    "sfm.matcher_choice": {"torch"},  # to ask for a CUDA device, inside a function
    "sfm.two_view": NUMPY | {"pycolmap"},
    "sfm.views.canvas": NUMPY | {"matplotlib", "PIL"},
    "sfm.views.figures": NUMPY | {"matplotlib"},
    "sfm.views.network_figures": NUMPY | {"PIL"},
    "sfm.views.match_folder": NUMPY,
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "sfm" else ("sfm", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))}


def rule(table: dict[str, set[str]], module: str) -> set[str] | None:
    """The entry of the module, or of the nearest package around it."""
    while module not in table and "." in module:
        module = module.rpartition(".")[0]
        if module == "sfm":
            return None
    return table.get(module)


def imported(path: Path, module: str) -> set[str]:
    """Modules that a file imports, `from sfm import x` as sfm.x; imports for type checkers do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "sfm":
                found |= {f"sfm.{alias.name}" if f"sfm.{alias.name}" in FILES else "sfm" for alias in node.names}
            else:
                found.add(node.module or "")
    return found - {module}


def test_no_bare_import_of_our_folders():
    for path in [*ROOT.glob("*.py"), *(p for f in (*FOLDERS, "tests", "benchmarks") for p in (ROOT / f).rglob("*.py"))]:
        bare = {name.partition(".")[0] for name in imported(path, "")} & {"matchers", "weights", "datasets"}
        assert not bare, f"{path}: import sfm.{bare.pop()}, or the module is loaded twice"


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_of_our_own(module):
    allowed = rule(MAY_IMPORT, module)
    assert allowed is not None, f"{module}: give it a place in MAY_IMPORT"
    package = ".".join(module.split(".")[:2])
    for name in imported(FILES[module], module):
        if name.partition(".")[0] != "sfm" or name in BASE or name.startswith(f"{package}."):
            continue
        assert any(name == ok or name.startswith(f"{ok}.") for ok in allowed), f"{module} may not import {name}"


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_of_third_parties(module):
    allowed = rule(THIRD_PARTY, module) or set()
    names = {name.partition(".")[0] for name in imported(FILES[module], module)}
    foreign = names - set(sys.stdlib_module_names) - {"sfm", "__future__"}
    assert foreign <= allowed, f"{module} may not import {', '.join(sorted(foreign - allowed))}"


@pytest.mark.parametrize("module", ["sfm", "sfm.cli", "sfm.pipeline", "sfm.weights", "sfm.datasets"])
def test_import_is_light(module):
    """Neither torch nor Open3D before they are needed; the command line alone loads nothing heavy at all."""
    heavy = ["torch", "open3d", *(["pycolmap", "numpy", "scipy"] if module in ("sfm", "sfm.cli") else [])]
    code = f"import sys, {module}; sys.exit(','.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
