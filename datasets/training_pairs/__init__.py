"""Training pairs with exact or reconstructed ground truth."""
