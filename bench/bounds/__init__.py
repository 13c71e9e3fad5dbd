"""Sound lower bounds of margins: what no attack within a budget can break."""
