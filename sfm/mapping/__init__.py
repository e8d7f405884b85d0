"""Stage 6: tracks become a COLMAP model."""
