"""A request to a stored run: check, plan, attack, judge."""
