"""Training runs: their folder and text, training, and uses of the trained model."""
