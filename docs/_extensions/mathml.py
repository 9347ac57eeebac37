"""Formulas as MathML, written when the site is built: browsers lay it out themselves, without a script or a network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def mathml(latex: str, display: str) -> str:
    # A single letter in \mathrm would come out italic: to MathML it is a variable unless it is an operator.
    formula = convert(re.sub(r"\\mathrm\{(\w)\}", r"\\operatorname{\1}", latex), display=display)
    # The converter's bar of an \overline is a dash, which browsers do not stretch. A border is as wide as the formula.
    return re.sub(
        r'<mover><mrow>((?:(?!<mover>).)*)</mrow><mo accent="true">&#x02015;</mo></mover>',
        r'<mrow style="border-top: 0.06em solid; padding-top: 0.1em">\1</mrow>',
        formula,
    )


def visit_inline(writer, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(writer, node: nodes.math_block) -> None:
    latex = node.astext().replace("{aligned}", "{split}")  # GitHub draws the one, latex2mathml the other
    if r"\\" in latex and "{split}" not in latex:  # a formula of a docstring has the rows alone
        latex = rf"\begin{{split}}{latex}\end{{split}}"
    writer.body.append(f'<div class="math">{mathml(latex, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
