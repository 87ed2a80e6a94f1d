"""Where reference answers and real data are: next to the checkout, or where $GEOMFEAT_SHARED says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("GEOMFEAT_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def shared(relative: str) -> Path:
    """The path of a shared file; the test skips, and says so, where the file is not there."""
    path = ROOT / relative
    if not path.exists():
        pytest.skip(f"needs shared/{relative}: put the folder next to the checkout or set GEOMFEAT_SHARED")
    return path
