"""Where things that can be made again are kept."""

import os
import sys
from pathlib import Path

VARIABLE = "ATAS_DEPLOY_CACHE"


def cache_dir() -> Path:
    """The cache folder of this user; it may not exist yet.

    `ATAS_DEPLOY_CACHE` if it is set; else the platform's: `~/Library/Caches` on macOS,
    `%LOCALAPPDATA%` on Windows, `$XDG_CACHE_HOME` (`~/.cache`) elsewhere.

    Raises:
        OSError: there is no home folder.
    """
    if own := os.environ.get(VARIABLE):
        return Path(own)
    try:
        return _platform_dir() / "atas-deploy"
    except RuntimeError as exc:
        raise OSError(f"no home folder; set {VARIABLE} to a folder") from exc


def _platform_dir() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return xdg if xdg.is_absolute() else Path.home() / ".cache"
