"""The documentation site: `sphinx-build -W -b html docs out/site`."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_extensions"))

import jax
import optax
from sphinx.util.typing import stringify_annotation

import optax_adahessian

project = "optax_adahessian"
author = copyright = "The optax_adahessian authors"
version = release = optax_adahessian.__version__

extensions = ["mathml", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["figures"]

default_role = "py:obj"  # a link where the name is known, code where it is not: the docstrings write `name`
highlight_language = "text"  # of blocks that name none: what a program prints

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_maximum_signature_line_length = 100  # longer ones have a line for each argument
napoleon_numpy_docstring = False
# Returns as text: Napoleon would take what is before a colon for a type.
napoleon_custom_sections = ["Returns", ("Reference", "References")]

html_theme = "furo"
html_title = f"optax_adahessian {version}"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_search_summary = False  # summaries are fetched page by page, which browsers refuse to files on disk
html_show_sphinx = False
html_show_copyright = False


def show_linked_file(app, docname, source) -> None:
    """A page that is a link to one of the project's own files is that file on the site."""
    if link := re.fullmatch(r"\[.*\]\((\.\./\w+\.md)\)\n", source[0]):
        source[0] = (app.srcdir / link[1]).read_text()
        app.env.note_dependency(link[1])
        for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
            source[0] = source[0].replace(f"]({name})", f"]({name.lower()})")


# The longest first: the others contain the last.
SHORT_TYPES = {"ArrayTree": optax.Params, "ScalarOrSchedule": optax.ScalarOrSchedule, "ArrayLike": jax.typing.ArrayLike}


def shorten_types(app, what, name, obj, options, signature, returns) -> tuple[str | None, str | None]:
    """Types by the names that the source has, instead of the unions that these are short for."""
    for short, union in SHORT_TYPES.items():
        signature = signature and signature.replace(stringify_annotation(union, "smart"), short)
    return signature, returns


def let_long_names_break(app, pagename, templatename, context, doctree) -> None:
    """After the joints of a name in code, so that the last column of a table is on the screen."""

    def with_joints(code: re.Match[str]) -> str:
        return re.sub(r"(?<=[_.(=:])(?=[a-zA-Z])", "<wbr>", code[0])

    context["body"] = re.sub(r'(?<=<span class="pre">)[^<]+', with_joints, context.get("body", ""))


def setup(app) -> None:
    app.connect("source-read", show_linked_file)
    app.connect("autodoc-process-signature", shorten_types)
    app.connect("html-page-context", let_long_names_break)
