"""Stage 7: every observation aligned in the images, cameras calibrated, bundle adjusted."""
