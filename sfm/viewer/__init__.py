"""The Open3D window and pictures of a model."""
