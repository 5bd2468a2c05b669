"""The gallery's figures look like the Displays.

Named by its path in ``conf.py``: Sphinx cannot pickle a function there, and warns.
"""

import matplotlib

from robustfit._utils.display_style import FIGURE_SIZE, PALETTE


def use_own_style(gallery_conf, filename):
    """Set palette and size before each example; called by sphinx-gallery."""
    matplotlib.rcParams["axes.prop_cycle"] = matplotlib.cycler(color=PALETTE)
    matplotlib.rcParams["figure.figsize"] = FIGURE_SIZE
