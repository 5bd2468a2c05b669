"""The README's numbers, about: processors round differently, by up to three points."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
ABOUT = 0.03


@pytest.fixture(scope="module")
def readme():
    if not README.exists():
        pytest.skip("the README is not part of an installed package")
    return README.read_text()


def printed_after(code_block, readme):
    """Return {name: numbers} of the indented lines that follow the code."""
    lines = readme[readme.index(code_block) :].splitlines()
    found = (re.fullmatch(r"    (\D+) ([\d.]+) ([\d.]+)", line) for line in lines)
    return {m[1]: (float(m[2]), float(m[3])) for m in found if m}


def test_the_first_example_prints_about_what_is_said(readme, capsys):
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    expected = printed_after(code, readme)
    assert list(expected) == ["natural set", "robust set"]
    exec(compile(code, "README.md", "exec"), {})
    for line in capsys.readouterr().out.splitlines():
        name, natural, robust = re.fullmatch(r"(\D+) ([\d.]+) ([\d.]+)", line).groups()
        assert (float(natural), float(robust)) == pytest.approx(
            expected.pop(name), abs=ABOUT
        )
    assert not expected


def test_the_table_agrees_with_the_example(readme):
    rows = re.findall(r"    (\w[^\d\n]*?) +([\d.]+)% +([\d.]+)% +([\d.]+)%", readme)
    table = {name: (float(n) / 100, float(a) / 100) for name, n, _, a in rows}
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    example = printed_after(code, readme)
    assert table["natural set"] == pytest.approx(example["natural set"], abs=ABOUT)
    from_scratch = table["robust set, from scratch"]
    assert from_scratch == pytest.approx(example["robust set"], abs=ABOUT)
