"""Which optimizer trains better at equal cost: every optimizer tuned alike, on six tasks of real data."""
