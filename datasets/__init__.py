"""Images with exact ground truth: a synthetic scene, training pairs from any images, and COLMAP models on disk."""
