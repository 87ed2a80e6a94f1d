"""A folder for compiled loops that every checkout with the same loops and this environment shares.

    NUMBA_CACHE_DIR=$(python -m tests.loop_cache .venv/loops)

numba names the place of what it compiled by the path of the source, and compiles again only where that one file has
changed, not where a loop that it calls has. Here the folder is named by the text of all loops: a change of any compiles
all of them. Links lead from the paths of this checkout and environment to names that do not depend on either.
"""

from __future__ import annotations

import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

from numba.core import caching

LOOPS = Path(__file__).resolve().parents[1] / "geomfeat" / "_numba"
COMPILED_TOO = ("umap", "pynndescent")


def place_of(source: Path) -> str:
    """The folder below NUMBA_CACHE_DIR in which numba stores what it compiled from a file."""
    name = "UserProvidedCacheLocator"  # numba before 0.62 has it with an underscore
    locator = getattr(caching, name, None) or getattr(caching, f"_{name}")
    return locator.get_suitable_cache_subpath(str(source))


def loop_cache(root: Path, loops: Path = LOOPS) -> Path:
    """The folder below `root` for these loops; it is made."""
    digest = hashlib.sha256()
    for file in sorted(loops.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    folder = root.absolute() / digest.hexdigest()[:12]
    specs = [spec for name in COMPILED_TOO if (spec := find_spec(name)) and spec.origin]
    for source in [loops / "__init__.py", *(Path(str(spec.origin)) for spec in specs)]:
        shared = folder / source.parent.name
        shared.mkdir(parents=True, exist_ok=True)
        link = folder / place_of(source)
        if not link.exists():
            link.symlink_to(shared.name, target_is_directory=True)
    return folder


if __name__ == "__main__":
    sys.stdout.write(f"{loop_cache(Path(sys.argv[1]))}\n")
