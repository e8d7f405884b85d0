from __future__ import annotations

import pytest

from sfm.errors import BadFile, SfMError


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a.jpg: gone", "a.jpg: gone"),
        ("写真 ä.jpg: gone", "写真 ä.jpg: gone"),
        ("a\nb.jpg", "a\\nb.jpg"),
        ("a\u2028b.jpg", "a\\u2028b.jpg"),
        ("\x1b]0;title\x07.jpg", "\\x1b]0;title\\x07.jpg"),
        ("a\udc80.jpg", "a\\udc80.jpg"),
    ],
)
def test_a_message_is_one_line_that_no_terminal_obeys(said: str, shown: str) -> None:
    assert str(BadFile(said)) == shown
    assert issubclass(BadFile, SfMError)
