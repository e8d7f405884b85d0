"""Stage 2: which images are matched with which."""
