"""Training pairs with exact truth, made in batches by torch: on a GPU thousands a second, on a CPU some.

Everything is of shape (B, ...) over the pairs of a batch. Pixels are COLMAP's (the first pixel's centre at (0.5,
0.5)), poses cam_from_world with z forward and y down, the world's z up, metres.
"""
