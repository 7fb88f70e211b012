"""Measurements: the speed of the model, of the checks, and of a figure."""
