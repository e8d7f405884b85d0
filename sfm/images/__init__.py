"""Stage 1: the images of a folder, found, checked, hashed and decoded, and their camera priors."""
