"""The rows of a CSV file by RFC 4180, of which a broken line is one of its own."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import BinaryIO

BLOCK_BYTES = 2**22  # CSV is read in blocks of about this many bytes
_INSIDE_QUOTES = re.compile(r'(?:[^"]++|"")*+')


def csv_lines(file: BinaryIO, encoding: str) -> Iterator[list[str]]:
    """The lines of a CSV file without their line feeds, block by block; bytes that are no text become surrogates."""
    while block := file.readlines(BLOCK_BYTES):
        lines = b"".join(block).decode(encoding, "surrogateescape").split("\n")
        yield lines if lines[-1] else lines[:-1]


def csv_columns(
    blocks: Iterator[list[str]], delimiter: str, width: int
) -> Iterator[tuple[Sequence[Sequence[str]], int]]:
    """The cells of the rows that have `width` of them, column by column, and how many lines are no such row.

    Block by block. Blank lines are nothing.
    """
    csv.field_size_limit(2**31 - 1)  # for the whole process: a long cell is a cell
    for lines in blocks:
        text = delimiter.join(lines)
        plain = lines and '"' not in text and "\r" not in text and "" not in lines
        if plain and all(line.count(delimiter) == width - 1 for line in lines):  # no row needs a look of its own
            flat = text.split(delimiter)
            yield [flat[place::width] for place in range(width)], 0
            continue
        rows: list[list[str]] = []
        broken = n = 0
        while n < len(lines):
            line, used = lines[n].removesuffix("\r"), 1
            if '"' not in line:
                cells = line.split(delimiter)
            else:
                try:
                    (cells,) = csv.reader((line,), delimiter=delimiter, strict=True)
                except csv.Error:
                    cells, used = _spanning_row(_following(lines, n, blocks), delimiter, width)
            n += used
            if len(cells) != width:
                broken += line != ""
            elif line:
                rows.append(cells)
        yield list(zip(*rows, strict=True)) if rows else [()] * width, broken


def _spanning_row(lines: Iterator[str], delimiter: str, width: int) -> tuple[list[str], int]:
    """The row of `width` cells that starts at the first of `lines`, and how many lines it takes.

    Without such a row, because quotes do not close as RFC 4180 has it, the first line alone is broken, which an empty
    list says. Looking ahead ends once there are too many cells: a file of broken lines takes no longer than it should.
    """
    cells: list[str] = []
    parts: list[str] | None = None  # of the quoted cell that is open
    for used, line in enumerate(lines, start=1):
        place, end = 0, len(line.removesuffix("\r"))
        while True:
            if parts is not None:
                close = _INSIDE_QUOTES.match(line, place).end()  # type: ignore[union-attr]  # it matches everywhere
                parts.append(line[place:close])
                if close == len(line):
                    parts.append("\n")
                    break
                cells.append("".join(parts).replace('""', '"'))
                place, parts = close + 1, None
            elif line.startswith('"', place):
                place, parts = place + 1, []
                continue
            else:
                next_cell = line.find(delimiter, place, end)
                cells.append(line[place : end if next_cell < 0 else next_cell])
                place += len(cells[-1])
            if place == end:
                return (cells, used) if len(cells) == width else ([], 1)
            if line[place] != delimiter or len(cells) >= width:
                return [], 1
            place += 1
    return [], 1


def _following(lines: list[str], start: int, blocks: Iterator[list[str]]) -> Iterator[str]:
    """The lines from `start` on; further blocks are appended to `lines` as they are needed."""
    for n in count(start):
        while n >= len(lines):
            more = next(blocks, None)
            if more is None:
                return
            lines += more
        yield lines[n]
