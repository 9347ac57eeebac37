"""``python -m optax_adahessian``."""

from optax_adahessian._cli import main

if __name__ == "__main__":
    main()
