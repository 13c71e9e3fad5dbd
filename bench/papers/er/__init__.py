"""ER-Classifier and detectors: their tables, figures and page."""
