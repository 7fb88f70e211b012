"""Training runs: their folder, their text, training, and what uses the model."""
