"""Known answers from outside, as JSON in ``tests/vectors``."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "vectors"


def load_vectors(name: str) -> dict[str, object]:
    """Read ``tests/vectors/<name>.json``."""
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def texts(value: object) -> dict[str, str]:
    """Narrow a part of a vector file to an object of texts."""
    assert isinstance(value, dict)
    return {str(key): str(text) for key, text in value.items()}


def rows(value: object) -> list[dict[str, object]]:
    """Narrow a part of a vector file to a list of objects."""
    assert isinstance(value, list)
    assert all(isinstance(row, dict) for row in value)
    return value
