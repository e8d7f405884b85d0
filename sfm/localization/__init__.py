"""New images registered in a finished model, which stays as it is."""
