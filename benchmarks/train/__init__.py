"""Which optimizer trains better at equal cost: every row tuned alike, on nine tasks of real data."""
