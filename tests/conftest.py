"""Shared fixtures."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests out of the user's cache; commands run as processes inherit it."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("ATAS_DEPLOY_CACHE")
    os.environ["ATAS_DEPLOY_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["ATAS_DEPLOY_CACHE"]
    else:
        os.environ["ATAS_DEPLOY_CACHE"] = before


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of development data; skips where it is missing."""
    path = Path(os.environ.get("ATAS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"development data not found at {path}; set ATAS_SHARED_DATA to its folder")
    return path
