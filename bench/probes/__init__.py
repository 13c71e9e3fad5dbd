"""Probes: looks at a model through the clean and the stored adversarial images of a run, one file a probe."""
