"""Photos with exact truth: a synthetic scene, training pairs from any photos, and COLMAP models on disk."""
