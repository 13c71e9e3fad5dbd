"""Detectors: what looks at an image and says how suspicious it is, one file a family."""
