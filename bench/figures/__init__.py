"""Figures: views of runs as PNG."""
