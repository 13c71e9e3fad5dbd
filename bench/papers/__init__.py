"""The papers on trial: printed numbers, and one folder a paper with its tables, figures and page."""
