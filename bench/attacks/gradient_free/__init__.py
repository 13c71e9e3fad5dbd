"""Attacks that use no gradient of the model."""
