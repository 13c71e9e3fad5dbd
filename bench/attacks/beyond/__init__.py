"""A search with populations, and the ensemble that sends it after what `strong` leaves."""
