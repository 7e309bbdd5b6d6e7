"""The files of ``examples`` as the documentation shows them, word for word.

python -m tests.shown_files --write    bring the pages up to date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

_SHOWN = re.compile(
    r"^`(?P<path>examples/[\w./-]+)`:\n\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


def pages() -> list[Path]:
    """Give every page of the documentation."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def shown(page: str) -> dict[str, str]:
    """Give what a page shows of files, by path."""
    return {found["path"]: found["text"] for found in _SHOWN.finditer(page)}


def fresh(page: str) -> str:
    """Give the page with the files as they are."""
    return _SHOWN.sub(
        lambda found: f"`{found['path']}`:\n\n```{found['language']}\n{_text(found['path'])}```",
        page,
    )


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Check the pages, or write them."""
    old = 0
    for path in pages():
        page = path.read_text(encoding="utf-8")
        if (new := fresh(page)) != page:
            old += 1
            if arguments == ["--write"]:
                path.write_text(new, encoding="utf-8")
            else:
                sys.stderr.write(f"{path.relative_to(ROOT)} shows old files\n")
    return 1 if old and arguments != ["--write"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
