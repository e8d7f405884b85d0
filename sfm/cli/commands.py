"""The verbs. To add one, write its file in sfm/cli/verbs and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sfm.cli.parsing import Verb
from sfm.cli.verbs import (
    compare,
    evaluate,
    export,
    inspect,
    localize,
    match,
    refine,
    report,
    runs,
    train,
    view,
    weights,
)

VERBS: Mapping[str, Verb] = MappingProxyType(
    {
        "demo": runs.DEMO,
        "view": view.VERB,
        "compare": compare.VERB,
        "match": match.VERB,
        "export": export.VERB,
        "refine": refine.VERB,
        "localize": localize.VERB,
        "import": runs.IMPORT,
        "inspect": inspect.VERB,
        "report": report.VERB,
        "evaluate": evaluate.VERB,
        "weights": weights.VERB,
        "train": train.VERB,
    }
)
