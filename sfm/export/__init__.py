"""Models and matches in other programs' formats, and hloc's in."""
