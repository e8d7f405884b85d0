"""A local web server that serves one payload well or badly."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sfm.weights.registry import Weights

PAYLOAD = b"PK" + bytes(range(256)) * 1200


@dataclass
class WebServer:
    """Paths: /good /wrong /missing /slow /lazy /noranges /cut (half, then cut; ranges honoured) /page /away."""

    base: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range header)

    def weights(self, *paths: str, checked: bool = True) -> Weights:
        """Weights with the payload's size and checksum, at these paths of this server."""
        return Weights(
            name="test",
            purpose="test",
            config="outdoor",
            file_names=("test.ckpt", "other_name.ckpt"),
            urls=tuple(f"{self.base}{path}" for path in paths),
            size=len(PAYLOAD) if checked else None,
            sha256=hashlib.sha256(PAYLOAD).hexdigest() if checked else None,
        )


def handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.requests.append((self.path, asked))
            if self.path == "/missing":
                return self.send_error(404)
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "file:///etc/hostname")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            body = {"/wrong": PAYLOAD[::-1], "/page": b"<!DOCTYPE html>" * 20}.get(self.path, PAYLOAD)
            start = int(asked[6:-1]) if asked and self.path != "/noranges" else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            body = body[start:]
            time.sleep({"/slow": 3.0, "/lazy": 0.5}.get(self.path, 0.0))
            if self.path == "/cut" and not start:
                body = body[: len(body) // 2]
            self.wfile.write(body)

    return Handler


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(server))
    server.base = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    http.shutdown()
    http.server_close()
