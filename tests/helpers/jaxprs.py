"""A walk over what JAX has traced."""

from jax.extend import core


def all_equations(jaxpr):
    """The equations of a jaxpr, and of those inside it."""
    yield from jaxpr.eqns
    for inner in core.subjaxprs(jaxpr):
        yield from all_equations(inner)
