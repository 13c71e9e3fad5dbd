"""MAT: its tables, figures and page."""
