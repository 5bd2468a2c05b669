"""What the documentation's own extensions promise: no network, no failure."""

import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
pytest.importorskip("sphinx")
sys.path.insert(0, str(DOCS / "_ext"))

import inventories  # noqa: E402
import measured  # noqa: E402


@pytest.fixture
def served(tmp_path):
    """A folder that stands for a documentation site with an inventory."""
    (tmp_path / "objects.inv").write_bytes(inventories.HEADER + b" 2\n")
    return f"{tmp_path.as_uri()}/"


def test_an_inventory_is_fetched_once_and_kept(served, tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    mapping = inventories.fetch_inventories(folder, {"project": served})
    assert mapping == {"project": (served, str(folder / "project.inv"))}
    monkeypatch.setenv("ROBUSTFIT_DOCS_OFFLINE", "1")
    assert inventories.fetch_inventories(folder, {"project": served}) == mapping
    assert inventories.fetch_inventories(folder, {"other": served}) == {}


def test_without_a_network_there_is_one_attempt_and_no_mapping(tmp_path, monkeypatch):
    attempts = []

    def unreachable(address, timeout):
        attempts.append(address)
        raise OSError("no route")

    monkeypatch.setattr(inventories.urllib.request, "urlopen", unreachable)
    assert inventories.fetch_inventories(tmp_path / "kept") == {}
    assert len(attempts) == 1


def test_what_is_no_inventory_is_not_kept(tmp_path):
    (tmp_path / "objects.inv").write_bytes(b"<html>log in</html>")
    address = f"{tmp_path.as_uri()}/"
    assert inventories.fetch_inventories(tmp_path / "kept", {"p": address}) == {}


ROWS = [
    {"set": "natural", "n": "1000", "seed": "0", "AA": "0.4", "note": ""},
    {"set": "learned*", "n": "1000", "seed": "0", "AA": "36.123456", "note": ""},
]


def test_columns_that_say_the_same_become_one_line():
    varying, constant = measured.split_columns(ROWS)
    assert varying == ["set", "AA"]
    assert constant == {"n": "1000", "seed": "0"}
    assert measured.split_columns(ROWS[:1])[0] == ["set", "n", "seed", "AA"]
    assert measured.split_columns(ROWS, hide=["AA"])[0] == ["set"]
    text = "\n".join(measured.table_as_rst("name.csv", ROWS))
    assert "In every row: n 1000; seed 0." in text
    assert r"learned\*" in text
    assert "- 36.12\n" in text + "\n"


def test_no_results_is_a_command_and_no_failure(tmp_path):
    lines = measured.result_as_rst("kip", command="python kip.py", folder=tmp_path)
    assert any("Not yet run" in line for line in lines)
    assert any("python kip.py" in line for line in lines)


def test_files_of_a_benchmark_are_found(tmp_path):
    (tmp_path / "kip").mkdir()
    for name in ("kip.csv", "kip_speed.csv", "kip/more.csv", "kipper.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "kip_empty.csv").write_text("a,b\n")
    found = measured.find_tables("kip", tmp_path)
    assert sorted(found) == ["kip.csv", "kip/more.csv", "kip_speed.csv"]
    (tmp_path / "kip" / "results.csv").write_text("a,b\n5,6\n")
    found = measured.find_tables("kip", tmp_path)
    assert sorted(found) == ["kip.csv", "kip/results.csv", "kip_speed.csv"]


def test_cells_stand_in_for_a_missing_table(tmp_path):
    (tmp_path / "kip").mkdir()
    (tmp_path / "kip" / "cell.json").write_text('{"a": 1.5, "curve": [1, 2], "b": "x"}')
    assert measured.find_tables("kip", tmp_path) == {"kip": [{"a": "1.5", "b": "x"}]}


def test_hardware_comes_from_the_cells_where_the_table_is_silent(tmp_path):
    (tmp_path / "kip").mkdir()
    (tmp_path / "kip" / "table.csv").write_text("set,seed\nx,0\n")
    (tmp_path / "kip" / "a.json").write_text('{"device": "a GPU", "seed": 0}')
    (tmp_path / "kip" / "b.json").write_text('{"device": "CPU"}')
    text = "\n".join(measured.result_as_rst("kip", command="", folder=tmp_path))
    assert "Cells: device CPU, a GPU." in text


def test_rows_are_selected():
    assert measured.select(ROWS, {"set": "natural"}) == ROWS[:1]
    assert measured.select(ROWS, {"set": "learned*|natural"}) == ROWS
    assert measured.select(ROWS, {}) == ROWS


def test_the_papers_figures_stand_beside_ours():
    found = measured.put_beside(ROWS, "set | paper | natural=8.28; other=1")
    assert [row["paper"] for row in found] == ["8.28", ""]
    assert measured.put_beside(ROWS, "absent | paper | natural=8.28") == ROWS
    assert measured.put_beside(ROWS, "") == ROWS


def test_seeds_become_one_row():
    rows = [
        {"set": "noise", "seed": "0", "robust": "80", "seconds": "1"},
        {"set": "noise", "seed": "1", "robust": "81.5", "seconds": "2"},
        {"set": "learned", "seed": "0", "robust": "90", "seconds": "3"},
    ]
    merged = measured.merge_rows(rows, "seed | robust", hide=["seconds"])
    assert merged == [
        {"set": "noise", "seed": "0, 1", "robust": "80.8 (80 to 81.5)"},
        {"set": "learned", "seed": "0", "robust": "90"},
    ]
    assert len(measured.merge_rows(rows, "seed | robust")) == 3, "seconds differ"
    assert measured.merge_rows(rows, "") == rows


def test_one_file_of_several(tmp_path):
    for name in ("a_one.csv", "a_two.csv"):
        (tmp_path / name).write_text("x,y\n1,nan\n3,4\n")
    lines = measured.result_as_rst("a", command="", files="*_two.csv", folder=tmp_path)
    text = "\n".join(lines)
    assert "a_two.csv" in text
    assert "a_one.csv" not in text
    assert "nan" not in text


def test_every_example_is_in_a_section_of_the_gallery():
    page = (DOCS / "examples.rst").read_text()
    patterns = re.findall(r"\.\./examples/(\S+)", page)
    examples = [path.name for path in (DOCS.parent / "examples").glob("plot_*.py")]
    homeless = [e for e in examples if not any(fnmatch(e, p) for p in patterns)]
    assert not homeless, "add them to a section of docs/examples.rst"


def find_page(target, page):
    """Return the source of the page that a ``:doc:`` target means."""
    base = DOCS if target.startswith("/") else page.parent
    path = (base / target.lstrip("/")).resolve()
    if path.parent.name == "gallery" and path.name.startswith("plot_"):
        return DOCS.parent / "examples" / f"{path.name}.py"
    if path.name == "index" and path.parent.name == "gallery":
        return DOCS.parent / "examples" / "README.rst"
    return path.with_name(path.name + ".rst")


NO_PAGES = {"_build", "_templates", "gallery", "generated"}
PAGES = sorted(
    path
    for path in DOCS.rglob("*.rst")
    if not NO_PAGES & set(path.relative_to(DOCS).parts)
    and path.name != "sg_execution_times.rst"  # written by a build of the site
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r":doc:`(?:[^`<]*<)?([^`<>]+)>?`", page.read_text())
    lost = [target for target in targets if not find_page(target, page).exists()]
    assert not lost


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_pages_are_in_a_table_of_contents(page):
    name = page.relative_to(DOCS).with_suffix("").as_posix()
    if name == "index":
        return
    entries = set()
    for other in PAGES:
        folder = other.parent.relative_to(DOCS).as_posix()
        for entry in re.findall(r"^   ([\w/*\[\]]+)$", other.read_text(), re.MULTILINE):
            entries.add(entry if folder == "." else f"{folder}/{entry}")
    assert any(fnmatch(name, entry) for entry in entries)
