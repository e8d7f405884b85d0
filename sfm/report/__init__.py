"""HTML pages of a run and of two models beside each other."""
