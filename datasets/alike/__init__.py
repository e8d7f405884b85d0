"""Sets of images of places that look alike, with exact ground truth (python -m benchmarks.alike)."""
