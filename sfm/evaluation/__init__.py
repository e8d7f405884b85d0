"""Models and pairs beside ground truth, models beside each other, the Image Matching Challenge."""
