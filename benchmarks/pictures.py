"""Pictures of the reports of two releases: the demo's, and one of Adult. Writes docs/pictures/*.png.

    python -m benchmarks.pictures --data DIR [--only demo adult] [--out docs/pictures]

Needs the system's Chromium and Pango, and `pip install dpsynth[bench,demo,pdf]`. Adult is read from
DIR/adult/adult.parquet. Every run makes new releases with new noise, so the numbers in the pictures change with it.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.browser import WIDTHS, chromium
from benchmarks.heads import forget_ledgers

if TYPE_CHECKING:
    from PIL.Image import Image

ROOT: Final = Path(__file__).parents[1]
_TALL: Final = {1280: 1500, 400: 1400}  # pixels of the first screens that are kept
_PARTS: Final = ("linkability", "audit")  # drawn by themselves, from the wide page
_MOST_BYTES: Final = 150_000
_EPSILON, _DELTA, _HOLDOUT = "1", "1e-6", "0.4"


def demo(folder: Path, _: Path) -> Path:
    """The release that `dpsynth demo` makes."""
    _dpsynth("demo", "--out", str(folder / "demo"))
    return folder / "demo" / "release-1"


def adult(folder: Path, data: Path) -> Path:
    """A release of Adult under the policy for recipients who are bound by a contract."""
    table, book, out = data / "adult" / "adult.parquet", str(folder / "adult.ledger"), folder / "adult"
    if not table.is_file():
        raise SystemExit(f"{table} is not there: --data names the folder that holds adult/adult.parquet")
    _dpsynth("ledger", "create", book, "--population", "adult", "--epsilon", "1.5", "--delta", _DELTA)
    _dpsynth(
        "release", str(table), "--schema", str(ROOT / "benchmarks" / "adult.toml"), "--ledger", book, "--out", str(out),
        "--epsilon", _EPSILON, "--delta", _DELTA, "--holdout", _HOLDOUT, "--policy", "gdpr-controlled",
    )  # fmt: skip
    return out


RELEASES: Final[dict[str, Callable[[Path, Path], Path]]] = {"demo": demo, "adult": adult}


def _dpsynth(*words: str) -> None:
    """Runs a command; a verdict that is no pass is a picture too."""
    ran = subprocess.run(
        [sys.executable, "-m", "dpsynth.cli", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if ran.returncode not in (0, 1, 3, 4):
        raise SystemExit(ran.stderr.strip())


def pages(report: Path) -> dict[str, Image]:
    """The first screens at each width, and some chapters by themselves."""
    from PIL import Image

    found: dict[str, Image.Image] = {}
    with chromium() as browser:
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": _TALL[width]})
            page.goto(report.resolve().as_uri())
            found[str(width)] = Image.open(io.BytesIO(page.screenshot()))
            if width == max(WIDTHS):
                for part in _PARTS:
                    found[part] = Image.open(io.BytesIO(page.locator(f"#{part}").screenshot()))
            page.close()
    return found


def first_sheet(pdf: Path) -> Image:
    """The first page of a PDF."""
    import pypdfium2

    with pypdfium2.PdfDocument(pdf) as document:
        sheet: Image = document[0].render(scale=1.25).to_pil()
        return sheet


def save(picture: Image, path: Path) -> None:
    """Writes a picture in as many colours as fit into its bytes."""
    for colours in (128, 64, 32, 16):
        picture.convert("RGB").quantize(colours).save(path, optimize=True)
        if path.stat().st_size <= _MOST_BYTES:
            return
    raise SystemExit(f"{path.name} has more than {_MOST_BYTES:,} bytes even in 16 colours: crop it")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("."), help="the folder that holds adult/adult.parquet")
    parser.add_argument("--only", nargs="+", default=list(RELEASES), choices=RELEASES)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        forget_ledgers(Path(place))
        for name in chosen.only:
            release = RELEASES[name](Path(place), chosen.data)
            pdf = Path(place) / f"{name}.pdf"
            _dpsynth("report", str(release), "--format", "pdf", "--out", str(pdf))
            drawn = pages(release / "release" / "report.html") | {"pdf": first_sheet(pdf)}
            for part, picture in drawn.items():
                save(picture, chosen.out / f"{name}-{part}.png")
                print(chosen.out / f"{name}-{part}.png")


if __name__ == "__main__":
    main()
