"""The fixture `web`: a local web server, one for each test."""

from tests.support.web_server import web  # noqa: F401  a fixture
