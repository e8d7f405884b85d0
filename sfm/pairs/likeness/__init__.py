"""How much two images look alike, from their local descriptors."""
