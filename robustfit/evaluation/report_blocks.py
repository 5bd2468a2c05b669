"""A document as headings, paragraphs, tables and pictures; as HTML or Markdown."""

import base64
import re
from dataclasses import dataclass
from html import escape

__all__ = ["Heading", "Paragraph", "Picture", "Table", "to_html", "to_markdown"]

_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.3em .6em;"
    "text-align:left}img{max-width:100%}"
)


@dataclass(frozen=True)
class Heading:
    """A heading; ``level`` 1 is the title."""

    text: str
    level: int = 2

    def as_html(self):
        """Return the block as HTML."""
        return f"<h{self.level}>{escape(self.text)}</h{self.level}>"

    def as_markdown(self):
        """Return the block as Markdown."""
        return f"{'#' * self.level} {_markdown(self.text)}"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text."""

    text: str

    def as_html(self):
        """Return the block as HTML."""
        return f"<p>{escape(self.text)}</p>"

    def as_markdown(self):
        """Return the block as Markdown."""
        return _markdown(self.text)


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_html(self):
        """Return the block as HTML."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.header)
        rows = (
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        return (
            f"<table><thead><tr>{head}</tr></thead>\n<tbody>"
            + "\n".join(rows)
            + "</tbody></table>"
        )

    def as_markdown(self):
        """Return the block as Markdown."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        plain = [[cell if cell == "---" else _markdown(cell) for cell in line]
                 for line in lines]  # fmt: skip
        return "\n".join(f"| {' | '.join(line)} |" for line in plain)


@dataclass(frozen=True)
class Picture:
    """A PNG with what it shows; ``file_name`` is its name beside a Markdown file."""

    alt: str
    png: bytes
    file_name: str

    def as_html(self):
        """Return the block as HTML, the picture inside."""
        data = base64.b64encode(self.png).decode("ascii")
        return f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{data}">'

    def as_markdown(self):
        """Return the block as Markdown, which refers to the file."""
        return f"![{_markdown(self.alt)}](<{self.file_name}>)"


def to_html(blocks):
    """Return blocks as one HTML page; the first is the title."""
    title = escape(blocks[0].text)
    body = "\n".join(block.as_html() for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def to_markdown(blocks):
    """Return blocks as Markdown."""
    return "\n\n".join(block.as_markdown() for block in blocks) + "\n"


def _markdown(text):
    """Return text in one line with all that Markdown would read as markup escaped."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~$&!])", r"\\\1", line)
