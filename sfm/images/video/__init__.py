"""Frames of videos as images: which are worth keeping, and where they are kept."""
