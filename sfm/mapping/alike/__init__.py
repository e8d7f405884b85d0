"""Pairs of images that show places that look alike, not the same: how a model shows it, and what is done about it."""
