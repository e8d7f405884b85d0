"""Models and pairs against ground truth, comparison of two models, the Image Matching Challenge."""
