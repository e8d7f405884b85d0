"""The synthetic courtyard with exact ground truth, and the demo that is rendered from it."""
