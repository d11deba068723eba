"""Tries the built wheel and sdist: each in an empty environment that sees this one's dependencies, but not this project.

    python tests/try_packages.py dist
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

IMPORT_ALL = """
import importlib, pathlib, headwater
assert "site-packages" in headwater.__file__, headwater.__file__
root = pathlib.Path(headwater.__file__).parent
names = sorted(p.relative_to(root).with_suffix("").as_posix().replace("/", ".") for p in root.rglob("*.py"))
skip = {"__init__", "__main__", "flows.init.app", "flows.init.test_app"}
for name in names:
    if name not in skip:
        importlib.import_module(f"headwater.{name}")
for name in headwater.__all__:
    getattr(headwater, name)
data = ["py.typed", "lineage/pages/why.html", "flows/nyc/procedures/rebooking.md", "flows/init/procedures/high-water.md"]
missing = [name for name in data if not (root / name).is_file()]
assert not missing, missing
print(f"{len(names)} modules, from {root.parent.name}")
"""


def attempt(package: Path) -> None:
    """Install one package into an empty environment and use it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "venv"
        venv.create(home, with_pip=True)
        python = home / "bin" / "python"
        [site] = home.glob("lib/python*/site-packages")
        # A .pth file in the folder named here is not read: dependencies are seen, this project's editable install is not.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools")  # Python 3.11 brings an old one; the dependencies' counts
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", str(package))
        run(python, "-m", "pip", "check")
        run(home / "bin" / "headwater", "--help", cwd=folder)
        run(python, "-c", IMPORT_ALL, cwd=folder)


def run(*command: object, cwd: str | None = None) -> None:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, command))[:200]}\n{result.stdout}\n{result.stderr}")
    print((result.stdout.strip().splitlines() or [""])[-1])


def main() -> None:
    packages = sorted(Path(sys.argv[1]).glob("headwater-*"))
    kinds = {package.suffix for package in packages}
    if kinds != {".whl", ".gz"}:
        raise SystemExit(f"expected one wheel and one sdist in {sys.argv[1]}, found {[package.name for package in packages]}")
    for package in packages:
        print(f"-- {package.name}")
        attempt(package)


if __name__ == "__main__":
    main()
