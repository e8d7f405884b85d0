"""A model as arrays to draw, and a renderer of them that needs no display."""
