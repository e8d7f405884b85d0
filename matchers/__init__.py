"""Matchers: image in, Matches out. They know neither the database nor COLMAP models."""
