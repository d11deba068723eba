"""The application as its files say now, loaded beside the one that runs: for a look at its rules.

Modules of the user's own are loaded anew, under names of their own, from their text and not from a cache; what they import of each other is
the new one, what they import from elsewhere is what runs already. Afterwards `sys.modules` holds what it held: the modules that run are not
touched, not even for a moment, and a load leaves nothing behind but what is taken of it.
"""

import builtins
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from headwater.flows.app import App, app_in, file_of_target
from headwater.lineage.errors import HeadwaterError, Misused

ROOT = "headwater_reloaded"
"""Under this name, for the time of a load, lie the modules that it loads."""

OURS = "headwater"
_LIBRARY = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})
_INSTALLED = frozenset(("site-packages", "dist-packages"))


class Reload:
    """Loads one application again and again.

    files  of the application and of the modules of the user's own that it imports: those a change of which may change the rules
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._folders = _folders(target)
        self.files = {file for name in list(sys.modules) if (file := self._file_of(name)) is not None}
        if (path := file_of_target(target)) is not None:
            self.files.add(path.resolve())

    @contextmanager
    def app(self) -> Iterator[App]:
        """The App as the files say now; its modules can be found by name until the context ends.

        Raises Misused: it cannot be loaded, and in which line of which file.
        """
        load = _Load(self)
        load.begin()
        try:
            yield load.app(self._target)
        finally:
            if load.files:
                self.files = self.files | load.files if load.failed else load.files
            load.end()

    def is_own(self, file: str | Path | None) -> bool:
        """Whether a module's file is the user's: Python source below the application's folder, not of a library."""
        if file is None or not str(file).endswith(".py"):
            return False
        path = Path(file).resolve()
        for folder in self._folders:
            if path.is_relative_to(folder):
                return not (_INSTALLED & set(path.relative_to(folder).parts) or any(path.is_relative_to(each) for each in _LIBRARY))
        return False

    def is_own_name(self, name: str) -> bool:
        """The same of what would be imported by a name."""
        top = name.partition(".")[0]
        if top in (OURS, ROOT):
            return False
        if (running := sys.modules.get(top)) is not None and (file := getattr(running, "__file__", None)) is not None:
            return self.is_own(file)
        spec = PathFinder.find_spec(top, None)
        if spec is None:
            return False
        places = [spec.origin] if spec.has_location else [f"{place}/__init__.py" for place in spec.submodule_search_locations or ()]
        return any(map(self.is_own, places))

    def _file_of(self, name: str) -> Path | None:
        file: str | None = getattr(sys.modules.get(name), "__file__", None)
        if file is None or name.partition(".")[0] == OURS or not self.is_own(file):
            return None
        return Path(file).resolve()


class _Load(MetaPathFinder):
    """One load, while it lasts: finds modules below ROOT, and gives them an `import` that leads them to each other."""

    def __init__(self, reload: Reload) -> None:
        self._reload = reload
        self._going = False
        self.files: set[Path] = set()
        self.failed = False
        self.builtins = {**vars(builtins), "__import__": self._import}

    def begin(self) -> None:
        importlib.invalidate_caches()  # a file may be new
        root = ModuleType(ROOT)
        root.__path__ = []
        sys.modules[ROOT] = root
        sys.meta_path.insert(0, self)  # before the one that would find what lies in a package by itself
        self._going = True

    def end(self) -> None:
        self._going = False
        sys.meta_path.remove(self)
        for name in [name for name in list(sys.modules) if name == ROOT or name.startswith(f"{ROOT}.")]:
            del sys.modules[name]

    def app(self, target: str) -> App:
        path = file_of_target(target)
        try:
            if path is None:
                module = importlib.import_module(f"{ROOT}.{target.partition(':')[0]}")
            else:
                module = self._from_file(path)
            return app_in(module, target)
        except Exception as error:
            self.failed = True
            raise self._told(error, target) from error

    def _from_file(self, path: Path) -> ModuleType:
        name = f"{ROOT}.headwater_app_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path.resolve(), loader=_Fresh(self, name, str(path.resolve())))
        assert spec is not None and spec.loader is not None, path
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{ROOT}."):
            return None
        spec = PathFinder.find_spec(fullname, path or None)
        if spec is not None and isinstance(spec.loader, SourceFileLoader) and spec.origin is not None:
            spec.loader = _Fresh(self, fullname, spec.origin)
        return spec

    def _import(
        self, name: str, globals: Mapping[str, Any] | None = None, locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (), level: int = 0,
    ) -> ModuleType:  # fmt: skip
        """`import`, as modules of this load have it; after the load it leads to what runs."""
        if level:
            name = importlib.util.resolve_name("." * level + name, str((globals or {}).get("__package__"))).removeprefix(f"{ROOT}.")
        if not (self._going and self._reload.is_own_name(name)):
            return builtins.__import__(name, globals, locals, fromlist or (), 0)
        if fromlist:
            return builtins.__import__(f"{ROOT}.{name}", globals, locals, fromlist, 0)
        importlib.import_module(f"{ROOT}.{name}")
        return sys.modules[f"{ROOT}.{name.partition('.')[0]}"]

    def _told(self, error: Exception, target: str) -> Misused:
        place = place_of(error, self.files)
        said = str(error).replace(f"{ROOT}.", "")
        if isinstance(error, HeadwaterError):
            return Misused(f"{place}: {said}" if place else said)
        return Misused(f"{place or f'application {target}'}: {type(error).__name__}: {said}")


class _Fresh(SourceFileLoader):
    """Reads the text itself: what is compiled counts as fresh if second and size are the same, and a changed level often is no longer."""

    def __init__(self, load: _Load, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._load = load
        load.files.add(Path(path).resolve())

    def get_code(self, fullname: str) -> CodeType | None:
        Path(importlib.util.cache_from_source(self.path)).unlink(missing_ok=True)  # the next start must not take it for fresh either
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._load.builtins
        super().exec_module(module)


def place_of(error: BaseException, files: set[Path]) -> str:
    """`FILE, line N` where it went wrong: the last line reached of these files; empty if none of them was."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() in files]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _folders(target: str) -> list[Path]:
    """Where modules of the user's own lie: in the folder of the application file, or in the one that its package lies in.

    Of a package that is installed it is the package itself.
    """
    if (path := file_of_target(target)) is not None:
        return [path.resolve().parent]
    top = sys.modules.get(target.partition(":")[0].partition(".")[0])
    places = [Path(place).resolve() for place in getattr(top, "__path__", ())]
    if not places and (file := getattr(top, "__file__", None)) is not None:
        places = [Path(file).resolve()]
    return [place if place.parent.name in _INSTALLED else place.parent for place in places]
