"""Probes: a model seen through the clean and stored adversarial images of a run, one probe a file."""
