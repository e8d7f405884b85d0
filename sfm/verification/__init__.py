"""Stage 4: two-view geometry on raw matches."""
