"""Arrays, images and pages as text: what a self-contained HTML file is made of.

An array becomes {"type", "shape", "data"}: its little-endian bytes in base64, of the kinds that browsers have typed
arrays for. Names of images are untrusted: they reach a page only inside JSON, of which no character can end a script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from sfm.errors import BadFile
from sfm.storage.journal import replace_durably
from sfm.system.hashing import json_digest

SCRIPTS = (
    "three.min.js",
    "base.js",
    "charts.js",
    "head.js",
    "model.js",
    "framing.js",
    "scene.js",
    "images.js",
    "graph.js",
    "pairs.js",
    "run.js",
)
STYLE = "report.css"


def pack(values: ArrayLike, dtype: str) -> dict[str, Any]:
    """An array for the page. dtype: u1, u2, u4 or f4; integers are clipped to what it holds."""
    array = np.asarray(values)
    if dtype[0] == "u":
        array = np.clip(array, 0, np.iinfo(dtype).max)
    array = np.ascontiguousarray(array, dtype="<" + dtype)
    return {"type": dtype, "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


def pack_fractions(xy: ArrayLike, size: Sequence[int]) -> dict[str, Any]:
    """Pixels (N, 2) as parts of 65535 of an image's width and height."""
    return pack(np.rint(np.asarray(xy, np.float64).reshape(-1, 2) / size * 65535), "u2")


def data_url(image: Image.Image, quality: int = 72) -> str:
    """An image as a JPEG inside a URL."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def asset(name: str) -> str:
    """The text of one of the files in sfm/report/assets."""
    return (resources.files("sfm.report") / "assets" / name).read_text(encoding="utf-8")


def page(document: dict[str, Any], main: str, key: str, picture: tuple[str, str] | None = None) -> str:
    """The HTML of a document, whole: styles, scripts and data inside, and leave to load nothing else.

    main: the script that lays out this kind of page. key: what the page was made from, for `key_of`. picture: what is
    seen where nothing can be drawn in 3D, as a URL and in words.
    """
    styles, scripts = asset(STYLE), [asset(name) for name in (*SCRIPTS, main)]
    allowed = " ".join(_hash(script) for script in scripts)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(styles)}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    # In JSON "<" occurs in strings only, where \u003c is the same character.
    data = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta name="loftr-sfm-key" content="{html.escape(key)}">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(str(document['title']))}</title>",
            f"<style>{styles}</style>",
            "</head>",
            "<body>",
            f'<main id="page">{_without_scripts(document)}{_still(picture)}</main>',
            f'<script type="application/json" id="document">{data}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body>",
            "</html>",
            "",
        ]
    )


def _without_scripts(document: dict[str, Any]) -> str:
    """What a browser shows that runs no scripts: the verdict."""
    verdict = document.get("verdict", {})
    said = html.escape(f"{verdict.get('label', '')}: {verdict.get('sentence', '')}")
    heading = html.escape(str(document.get("heading", "")))
    return (
        f"<noscript><h1>{heading}</h1><p>{said}</p>"
        "<p>The rest of this page needs JavaScript, which it carries along.</p></noscript>"
    )


def _still(picture: tuple[str, str] | None) -> str:
    if picture is None:
        return ""
    url, words = (html.escape(text) for text in picture)
    return f'<img id="still" src="{url}" alt="{words}">'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def key_of(value: Any) -> str:
    """A hash of plain values and of the files that pages are made with."""
    own = [asset(name) for name in (STYLE, *SCRIPTS, "report.js", "compare.js")]
    return json_digest([value, own])


def has_key(path: Path, key: str) -> bool:
    """Whether the page in a file was made with this key."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return f'content="{key}"' in stream.read(1024)
    except OSError:
        return False


def write_page(path: Path, text: str) -> None:
    """Writes a page; it appears whole. Raises BadFile where it cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        part.write_text(text, encoding="utf-8", newline="\n")
        replace_durably(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise BadFile(f"{path}: cannot be written ({error.strerror}); choose another file") from None
