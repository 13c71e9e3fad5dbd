"""Searches behind choices that recipes and results state."""
