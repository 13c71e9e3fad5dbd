"""Training the papers' defenses: `python -m defenses train RECIPE`. One module a defense; see `defense.Defense`."""
