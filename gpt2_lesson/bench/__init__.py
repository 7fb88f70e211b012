"""Measurements: of our speed, of the checks, of a figure in a browser."""
