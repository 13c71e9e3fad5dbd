"""Attacks in turn, each on what those before it left."""
