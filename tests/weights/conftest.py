"""The fixture `web`: a local web server, one for each test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from web_server import WebServer, handler


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
