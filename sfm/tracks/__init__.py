"""Stage 5: verified matches become keypoints and tracks."""
