"""Rendered scenes: rooms, objects and house fronts, cast from boxes on the device that trains."""
