"""Bilateral adversarial training: its tables and page."""
