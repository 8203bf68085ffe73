"""CSV as text, Parquet and data frames in their storage types; nothing is inferred from rows.

`check_header` comes before a reservation: it looks at the container, the header and the storage types, and refuses what
does not fit the schema. `read` comes after it and is total: no row, and no number of rows, raises or changes a message.
What happens to a row depends on that row and on the schema alone:

    a number beyond the bounds                          goes to the nearest bound; finer than `decimals`: rounded
    a text longer than the column's `prefix`            is cut off there
    an undeclared, unparsable or out-of-type cell       follows the column's `unknown`: missing, other or drop_row
    a missing cell where missing is not allowed         the same
    a time finer than its column counts                 is cut off; a time with a zone is taken at UTC
    a row with too few or too many cells (CSV)          is dropped: nobody can say which cell is which
    a row without a unit id                             is dropped

A CSV file follows RFC 4180: a quoted cell may span lines. A line whose quotes do not close properly is a broken row of
its own, dropped alone, and reading goes on with the next line. In a file that some program wrote by that standard no
cell, whatever a person put into it, can reach beyond its row. A file whose quotes were not escaped has no such borders:
two stray quotes can enclose everybody between them. Reading line by line instead would be worse, because then a cell
with line breaks in a proper file could pose as rows of other people. So the assumption is named in every report.

    header.py      check_header, check_frame: container, names and storage types
    csv_lines.py   the rows of a CSV file, by RFC 4180
    storage.py     what kind of cells Arrow and pandas hold
    cells.py       the cells of a column; texts.py, objects.py and arrow.py make them, from each kind of storage
    block.py       rows as found; files.py and frames.py cut files and data frames into blocks
    rows.py        read: the rules applied, row by row
    first_rows.py  the first cells of a file, for a draft
"""

from dpsynth.reading.files import blocks
from dpsynth.reading.header import check_frame, check_header, check_stored
from dpsynth.reading.rows import OpenRows, RawRows, gather, read, read_blocks, read_frame, read_open_frame

__all__ = [
    "OpenRows",
    "RawRows",
    "blocks",
    "check_frame",
    "check_header",
    "check_stored",
    "gather",
    "read",
    "read_blocks",
    "read_frame",
    "read_open_frame",
]
