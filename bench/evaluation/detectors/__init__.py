"""Detectors: how suspicious an image is, one family a file."""
