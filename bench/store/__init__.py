"""Runs as plain files; no torch."""
