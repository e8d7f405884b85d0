"""The whole run: the table of stages, and what of them is reused."""
