"""One setting for models whose parameters have units, next to Adam over six decades of rates."""
