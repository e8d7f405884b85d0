"""Scenes with known cameras: rendered ones, and ground truth in COLMAP's format."""
