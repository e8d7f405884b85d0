"""Photometric alignment: patches of one image found in another, for the tracks of a model and for two images."""
