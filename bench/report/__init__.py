"""Views of stored runs: measures, tables, curves, signs; no torch."""
