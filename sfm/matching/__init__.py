"""Stage 3: each image encoded once, each pair matched once, in batches."""
