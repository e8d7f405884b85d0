"""python .ci/check_wheel.py WHEEL: the wheel holds what a run needs, and nothing beside sfm/ at its top."""

from __future__ import annotations

import sys
import zipfile

NEEDED = (
    "sfm/py.typed",
    "sfm/matchers/base.py",
    "sfm/weights/loftr_compact.safetensors",
    "sfm/weights/README.md",
    "sfm/datasets/courtyard/demo/images/view_00.jpg",
    "sfm/datasets/courtyard/demo/gt/cameras.txt",
    "sfm/report/assets/",
)


def main(wheel: str) -> list[str]:
    """What is wrong, one line each."""
    names = zipfile.ZipFile(wheel).namelist()
    found = [f"{wheel}: no {name}" for name in NEEDED if not any(held.startswith(name) for held in names)]
    top = {name.partition("/")[0] for name in names}
    beside = sorted(name for name in top if name != "sfm" and not name.endswith(".dist-info"))
    return found + [f"{wheel}: {name} is installed beside sfm" for name in beside]


if __name__ == "__main__":
    wrong = main(sys.argv[1])
    print(*wrong or [f"{sys.argv[1]}: complete"], sep="\n")
    sys.exit(bool(wrong))
