"""Training: supervision from exact geometry, losses, and a loop that resumes."""
