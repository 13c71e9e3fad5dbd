"""ADR: its tables, figures and page."""
