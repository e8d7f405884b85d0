"""`loftr-sfm train`."""
