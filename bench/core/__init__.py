"""Words that every layer shares; no torch."""
