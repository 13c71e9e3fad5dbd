"""What passes a search took, and what they may be."""
