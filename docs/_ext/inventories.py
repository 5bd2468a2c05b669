"""Links to other projects' documentation that cannot break a build.

``sphinx.ext.intersphinx`` fetches the inventories itself and warns when one is out of
reach, a warning without a type that ``suppress_warnings`` could name; with warnings as
errors a build without a network would fail. So the inventories are fetched here, kept
next to the build and handed to intersphinx as files. What cannot be had is left out,
and its references become plain text.
"""

import os
import urllib.request
from pathlib import Path

PROJECTS = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "matplotlib": "https://matplotlib.org/stable/",
    "sklearn": "https://scikit-learn.org/stable/",
    "skorch": "https://skorch.readthedocs.io/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "joblib": "https://joblib.readthedocs.io/en/stable/",
    "imblearn": "https://imbalanced-learn.org/stable/",
    "dask": "https://docs.dask.org/en/stable/",
}
HEADER = b"# Sphinx inventory version"


def fetch_inventories(folder, projects=None, *, timeout=3.0):
    """Return an ``intersphinx_mapping`` of the inventories that could be had.

    Parameters
    ----------
    folder : path
        Where inventories are kept; one that is there is not fetched again.
    projects : dict of str to str or None, default=None
        Address of the documentation by name; None is ``PROJECTS``.
    timeout : float, default=3.0
        Seconds. After the first address out of reach no other is tried: a machine
        without a network waits once.
    """
    mapping, reachable = {}, not os.environ.get("ROBUSTFIT_DOCS_OFFLINE")
    for name, address in (PROJECTS if projects is None else projects).items():
        path = Path(folder) / f"{name}.inv"
        if not path.exists() and reachable:
            reachable = _fetch(address + "objects.inv", path, timeout)
        if path.exists():
            mapping[name] = (address, str(path))
    return mapping


def _fetch(address, path, timeout):
    """Write the inventory to ``path`` if it is one; return whether it was reached."""
    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer:
            content = answer.read()
    except (OSError, ValueError):
        return False
    if content.startswith(HEADER):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return True
