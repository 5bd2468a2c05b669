"""Sphinx configuration."""

import os
import runpy
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "agg")
HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
sys.path.insert(0, str(HERE / "_ext"))

from inventories import fetch_inventories  # noqa: E402

import robustfit  # noqa: E402

project = "robustfit"
copyright = "2026, the robustfit developers"
version = release = robustfit.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "measured",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py.md5", "*.md"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["robustfit.css"]
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say what arguments are
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
default_role = "literal"

# Links to scikit-learn, skorch, torch and others where their inventories can be had;
# without a network they become text and the build still passes (see the module).
# ROBUSTFIT_DOCS_OFFLINE=1 does not even try.
intersphinx_mapping = fetch_inventories(HERE / "_build" / "inventories")

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"plot_",
    "reset_modules": ("matplotlib", "gallery_style.use_own_style"),
    "abort_on_example_error": True,
    "show_memory": False,
    "min_reported_time": 0,
    "download_all_examples": False,
    "remove_config_comments": True,
    "doc_module": ("robustfit",),
    "reference_url": {"robustfit": None},
    "backreferences_dir": "gallery/backreferences",
}

html_theme = "pydata_sphinx_theme"
html_title = "robustfit"
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 4,
}


def draw_figures(app):
    """Run docs/figures/*.py, whose pictures are not kept in the repository.

    A picture that is newer than its script, and than the results of the benchmark of
    that name, is left alone.
    """
    target = HERE / "_static" / "generated"
    target.mkdir(parents=True, exist_ok=True)
    for script in sorted((HERE / "figures").glob("*.py")):
        pictures = list(target.glob(f"{script.stem}*.png"))
        made = min((p.stat().st_mtime for p in pictures), default=0)
        drawn_from = [script, *RESULTS.glob(f"{script.stem}/*.*")]
        if made < max(p.stat().st_mtime for p in drawn_from):
            runpy.run_path(str(script))["main"]()


def skip_metadata_requests(app, what, name, obj, skip, options):
    """Leave scikit-learn's generated ``set_..._request`` out: its text, its labels."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    """Draw the pictures before the pages that show them are read."""
    app.connect("builder-inited", draw_figures, priority=100)
    app.connect("autodoc-skip-member", skip_metadata_requests)
