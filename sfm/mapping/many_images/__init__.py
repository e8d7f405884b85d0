"""Mapping of many images: a part decides what is in doubt, and is the start of the mapping of all."""
