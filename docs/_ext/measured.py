"""The directive ``measured``: a benchmark's results as tables, read at build.

.. code-block:: rst

    .. measured:: robust_dataset
       :command: python benchmarks/robust_dataset.py --data mnist
       :files: robust_dataset/results.csv
       :hide: seconds_set, seconds_training
       :where: data=mnist
       :beside: set | paper % | natural=8.28; learned=52.36
       :over: seed | natural, pgd, autoattack

It takes ``benchmarks/results/NAME.csv``, ``NAME_*.csv`` and ``NAME/*.csv`` (of a folder
with a ``results.csv`` only that one), or else the cells ``NAME/*.json``. Columns that
say the same in every row (n, seed, hardware, versions, date) become a line above the
table, so that a telephone can show the rest. ``:beside:`` adds a column: what the paper
has for each value of another column. ``:over:`` shows rows that differ in one column,
in hidden ones and in those named behind the bar as one row: their mean and range. Where
nothing was measured yet, the page says so, with the command.
"""

import csv
import json
import re
from fnmatch import fnmatch
from pathlib import Path

from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def find_tables(name, folder=RESULTS):
    """Return ``{file name: list of rows (dicts of str)}`` of a benchmark."""
    paths = [*folder.glob(f"{name}.csv"), *folder.glob(f"{name}_*.csv")]
    inside = sorted((folder / name).glob("*.csv"))
    summary = [path for path in inside if path.name == "results.csv"]
    paths = sorted(paths) + (summary or inside)
    tables = {path: read_csv(path) for path in paths}
    if not any(tables.values()):
        cells = [
            json.loads(p.read_text()) for p in sorted((folder / name).glob("*.json"))
        ]
        tables = {
            folder / name: [_flat(cell) for cell in cells if isinstance(cell, dict)]
        }
    return {str(p.relative_to(folder)): rows for p, rows in tables.items() if rows}


def settings_of_cells(name, rows, folder=RESULTS):
    """Return what the cells ``NAME/*.json`` know and the table's columns do not."""
    cells = [json.loads(path.read_text()) for path in folder.glob(f"{name}/*.json")]
    settings = {}
    for key in ("n_test", "seed", "device", "torch", "date"):
        values = {str(c[key]) for c in cells if isinstance(c, dict) and c.get(key)}
        if values and not any(key in row for row in rows):
            settings[key] = ", ".join(sorted(values))
    return settings


def read_csv(path):
    """Return the rows of a CSV file as dicts."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _flat(cell):
    """Return the values of a cell that a table can show, as text."""
    return {k: str(v) for k, v in cell.items() if isinstance(v, str | int | float)}


def select(rows, where):
    """Return the rows whose columns have the values (``a|b``: either) of ``where``."""
    allowed = {column: values.split("|") for column, values in where.items()}
    return [row for row in rows if all(row.get(k) in v for k, v in allowed.items())]


def split_columns(rows, hide=()):
    """Return the columns that differ between rows, and a dict of those that do not.

    Columns without any value are in neither; of a single row all columns differ.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    varying, constant = [], {}
    for name in names:
        values = {row.get(name) or "" for row in rows}
        if name in hide or values == {""}:
            continue
        if len(values) == 1 and len(rows) > 1:
            constant[name] = values.pop()
        else:
            varying.append(name)
    return varying, constant


def put_beside(rows, beside):
    """Return the rows with the paper's figures, where the rows have the column."""
    if not beside:
        return rows
    column, heading, values = (part.strip() for part in beside.split("|"))
    figures = dict(pair.strip().split("=") for pair in values.split(";"))
    if not any(row.get(column) in figures for row in rows):
        return rows
    return [row | {heading: figures.get(row.get(column), "")} for row in rows]


def merge_rows(rows, over, hide=()):
    """Return one row for those that differ in the columns of ``over`` only."""
    if not over:
        return rows
    column, measured = (part.strip() for part in over.split("|"))
    measured = [name.strip() for name in measured.split(",")]
    groups = {}
    for row in rows:
        row = {k: v for k, v in row.items() if k not in hide}
        fixed = tuple((k, v) for k, v in row.items() if k not in (column, *measured))
        groups.setdefault(fixed, []).append(row)
    return [
        group[0]
        | {column: ", ".join(dict.fromkeys(row[column] for row in group))}
        | {name: mean_and_range([row[name] for row in group]) for name in measured}
        for group in groups.values()
    ]


def mean_and_range(values):
    """Return "2 (1 to 3)" for several numbers as text, and one as it is."""
    if len(values) == 1:
        return values[0]
    numbers = [float(value) for value in values]
    mean = sum(numbers) / len(numbers)
    return f"{mean:.1f} ({min(numbers):g} to {max(numbers):g})"


def as_shown(value):
    """Return a cell's text: numbers with at most four digits that matter."""
    value = "" if value in (None, "nan") else value
    if re.fullmatch(r"-?\d+\.\d{3,}", value):
        value = f"{float(value):.4g}"
    return re.sub(r"([\\*`|_])", r"\\\1", value)


def table_as_rst(name, rows, hide=(), settings=None):
    """Return a table, with what its rows have in common above it, as reST lines."""
    varying, constant = split_columns(rows, hide)
    lines = [f"From ``benchmarks/results/{name}``."]
    for start, known in (("In every row", constant), ("Cells", settings or {})):
        same = "; ".join(f"{title(k)} {as_shown(v)}" for k, v in known.items())
        lines += [f"{start}: {same}."] if same else []
    lines += ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in [{name: title(name) for name in varying}, *rows]:
        cells = [as_shown(row.get(column)) for column in varying]
        lines += [f"   {'*' if i == 0 else ' '} - {c}" for i, c in enumerate(cells)]
    return [*lines, ""]


def title(column):
    """Return the heading of a column."""
    return column.replace("_", " ").strip()


def result_as_rst(
    name, *, command, hide=(), where=None, files="*", beside="", over="", folder=RESULTS
):
    """Return all tables of a benchmark, or the command that makes them."""
    lines = []
    for file, rows in find_tables(name, folder).items():
        rows = put_beside(select(rows, where or {}), beside)
        rows = merge_rows(rows, over, hide)
        if rows and fnmatch(file, files):
            settings = settings_of_cells(name, rows, folder)
            lines += table_as_rst(file, rows, hide, settings)
    if not lines:
        lines = [".. admonition:: Not yet run", ""]
        lines += ["   The command that measures it::", "", f"       {command}", ""]
    return lines


class Measured(SphinxDirective):
    """See the module."""

    required_arguments = 1
    option_spec = {
        "command": directives.unchanged_required,
        "files": directives.unchanged,
        "hide": directives.unchanged,
        "beside": directives.unchanged,
        "over": directives.unchanged,
        "where": directives.unchanged,
    }

    def run(self):
        """Return the nodes of the tables."""
        name = self.arguments[0]
        for path in (
            RESULTS,
            *RESULTS.glob(f"{name}*"),
            *RESULTS.glob(f"{name}/*.csv"),
        ):
            if path.is_file():
                self.env.note_dependency(str(path))
        hide = [part.strip() for part in self.options.get("hide", "").split(",")]
        where = [part.split("=") for part in self.options.get("where", "").split(";")]
        lines = result_as_rst(
            name,
            command=self.options["command"],
            hide=hide,
            files=self.options.get("files", "*"),
            beside=self.options.get("beside", ""),
            over=self.options.get("over", ""),
            where={k.strip(): v.strip() for k, v in (p for p in where if len(p) == 2)},
        )
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app):
    """Register the directive."""
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True}
