"""Attacks: one method a file, found by the name that it registers."""
