"""Models in metres: by GPS in a local geographic frame, or by known distances."""
