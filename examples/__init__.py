"""Programs that train something: ``python -m examples.NAME --help``."""

import argparse


def positive_int(text):
    """The type of an argument that is an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not an integer of at least 1")
    return number
