"""``python -m docs.figures [FOLDER]``: draws every figure of the documentation, by default into docs/images."""

import pathlib
import sys

import jax

from docs.figures import estimation, models, paths, units

FIGURES = {
    "two_units.png": units.two_units,
    "path.png": paths.path_to_the_minimum,
    "step_size.png": models.gradient_lines,
    "quadratic_model.png": models.quadratic_model,
    "probes.png": estimation.probes_and_products,
    "double_gradient.png": estimation.double_gradient,
    "three_steps.png": paths.three_steps,
    "noisy_bowl.png": paths.noisy_bowl,
    "estimate.png": estimation.estimate_of_a_network,
}


def main(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        with jax.enable_x64(True):
            draw().savefig(folder / name, dpi=150, metadata={"Software": None})
        print(folder / name)


if __name__ == "__main__":
    main(pathlib.Path(*sys.argv[1:2]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "images")
