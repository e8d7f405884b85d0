"""What each stage of a database was committed with: its fingerprint, its summary and where its data come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from sfm.storage.database_file import REMEDY
from sfm.storage.hdf5_columns import reading, subgroup
from sfm.system.untrusted_files import NUMBER, has_shape
from sfm.types import StageSummary


class StageRecords:
    """Reads what stages were committed with, of an open database."""

    path: Path
    _h5: h5py.File

    def fingerprint(self, stage: str) -> str | None:
        """Fingerprint that the stage was committed with; None where it is not committed."""
        value = self._stage_json(stage).get("fingerprint")
        return None if value is None else str(value)

    def summary(self, stage: str) -> StageSummary | None:
        """Summary that the stage was committed with; None where it is not committed."""
        value = self._stage_json(stage).get("summary")
        with reading(self.path, REMEDY):
            return parsed_summary(value) if value else None

    def provenance(self, stage: str) -> dict[str, Any]:
        """What the stage's data were made with, as it was given to `commit`; empty where not committed."""
        with reading(self.path, REMEDY):
            return parsed_provenance(self._stage_json(stage).get("provenance", {}))

    def stages(self) -> tuple[str, ...]:
        """Names of the committed stages, sorted."""
        with reading(self.path, REMEDY):
            group = subgroup(self._h5, "stages")
            return tuple(sorted(group.attrs)) if group is not None else ()

    def _stage_json(self, stage: str) -> dict[str, Any]:
        with reading(self.path, REMEDY):
            group = subgroup(self._h5, "stages")
            return stage_json(None if group is None else group.attrs.get(stage), stage)


def stage_json(text: Any, stage: str) -> dict[str, Any]:
    """What a stage was committed with, {} where it was not."""
    value = json.loads(text) if text is not None else {}
    if not isinstance(value, dict):
        raise ValueError(f"stage {stage}: not an object")
    return value


def parsed_summary(value: Any) -> StageSummary:
    """A stage's summary of its JSON."""
    if not has_shape(value, {"stage": str, "counts": {str: NUMBER}, "seconds": NUMBER, "skipped": list}):
        raise ValueError("not the summary of a stage")
    skipped = tuple((str(name), str(reason)) for name, reason in value["skipped"])
    return StageSummary(**value | {"skipped": skipped, "notes": tuple(map(str, value.get("notes", ())))})


def parsed_provenance(value: Any) -> dict[str, Any]:
    """What a stage's data were made with, of its JSON."""
    if not has_shape(value, {str: object}) or not has_shape(value.get("matcher", {}), {str: object}):
        raise ValueError("not the provenance of a stage")
    return dict(value)
