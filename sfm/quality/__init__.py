"""What makes a finished model suspect."""
