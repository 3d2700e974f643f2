"""The documentation site: ``sphinx-build -W tutorials OUT`` writes it to OUT and nothing into this folder."""

import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from site_parts import addresses

import pyro_dgm

project = "pyro_dgm"
author = "The pyro_dgm developers"
version = release = pyro_dgm.__version__
language = "en"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "site_gallery", "site_parts"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "runs"]
suppress_warnings = ["mystnb.unknown_mime_type"]

html_theme = "furo"
html_title = "pyro_dgm"
html_theme_options = {
    "footer_icons": addresses(tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"])
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
