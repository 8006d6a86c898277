"""Shared fixtures."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of development data; skips where it is missing."""
    path = Path(os.environ.get("ATAS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"development data not found at {path}; set ATAS_SHARED_DATA to its folder")
    return path
