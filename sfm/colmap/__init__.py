"""Every adapter to pycolmap: cameras, COLMAP's database, models in and out, its log."""
