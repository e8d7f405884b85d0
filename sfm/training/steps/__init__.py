"""Steps of training: supervision from exact geometry, losses, rates, and a loop that resumes."""
