"""
`ImportSpace`: the modules of a project for one strategy file, loaded for it and separate from those of others.

Two strategies may each have a `helpers.py` beside them, and an edit takes effect with the next load. Modules of Python
and of installed packages are shared, as everywhere in a process.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path, PurePosixPath
from types import CodeType, ModuleType
from typing import Any

_SHARED = {"backtest", "backtrader", *sys.stdlib_module_names}  # whatever files beside a strategy have these names


class ImportSpace:
    """
    The modules that a strategy's file imports from its own project.

    Attributes:
        home: the module of the strategy's file, once it is loaded.
        package: the package that the file belongs to, "" for none.
        modules: the loaded modules, by name.
        sources: file and SHA-256 of the source of each module as it was loaded, by name.
    """

    def __init__(self, file: Path, root: Path) -> None:
        """
        Make the space of a file; nothing is imported yet.

        Args:
            root: the project's folder, whose packages are found too; modules beside the file take precedence.
        """
        top, self.package = _package_of(file)
        self._file = file
        self._folders = [str(folder) for folder in dict.fromkeys((file.parent, top, root))]
        self.home: ModuleType | None = None
        self.modules: dict[str, ModuleType] = {}
        self.sources: dict[str, tuple[Path, str]] = {}
        self.tops: set[str] = set()  # names of modules at the top that are the project's
        self._owned: dict[str, bool] = {}
        # Statements and `__import__` in the project's own code ask this space, from whatever thread or at what time.
        self.builtins = {**vars(builtins), "__import__": self._import}
        importlib.invalidate_caches()  # a file written just now is found

    def load(self, name: str, file: Path) -> ModuleType:
        """Run the strategy's file as a module of this name, and return it; errors of the file are raised."""
        loader = _Loader(self, name, str(file.absolute()))
        spec = importlib.util.spec_from_file_location(name, file.absolute(), loader=loader)
        if spec is None:
            raise ImportError(f"{file} is not Python source")
        module = importlib.util.module_from_spec(spec)
        if self.package:
            module.__package__, module.__spec__ = self.package, None  # as `from .x` needs
        self.reached({})  # whose names are then known, so that this thread waits for others that use the same ones
        before, path = sys.modules.get(name), list(sys.path)
        sys.modules[name] = self.home = module  # Backtrader looks its classes' modules up
        try:
            with self.shown():
                loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            if before is not None:
                sys.modules[name] = before
            raise
        finally:
            self._take_from_path(path)
        return module

    def owns(self, name: str) -> bool:
        """Return whether a name, dotted or not, belongs to a module of the project."""
        top = name.partition(".")[0]
        if top not in self._owned:
            found = self._spec_at_top(top)
            if found is None and top not in _SHARED and _spec_elsewhere(top) is None:
                return False  # and not found yet: the file may add a folder to `sys.path`
            self._owned[top] = found is not None
            if found is not None:
                _turns.add(self, top)
        return self._owned[top]

    def spec(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Return the spec of a module of the project from the folders of its package; None if there is none."""
        found = self._spec_at_top(name) if path is None else PathFinder.find_spec(name, path)
        if found and found.origin and found.origin.endswith(".py") and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(self, name, found.origin)
            found.cached = None
        return found

    def located(self, name: str) -> dict[str, tuple[Path, str]]:
        """
        Return file and package of each module of the project that a name refers to, without importing any.

        A name such as "a.*" refers to all modules of the package a.
        """
        if not self.owns(name):
            return {}
        package = name.removesuffix(".*")
        if package != name:
            _, folders = self._place(package)
            inside = {file.stem for folder in folders for file in Path(folder).glob("*.py") if file.stem.isidentifier()}
            return {one: found for stem in sorted(inside) for one, found in self.located(f"{package}.{stem}").items()}
        if name in self.sources:
            file = self.sources[name][0]
            return {name: (file, package_of(name, file))}
        found, _ = self._place(name)
        return {name: (found, package_of(name, found))} if found else {}

    def reached(self, loaded: Mapping[str, Path]) -> dict[str, Path]:
        """Return what `reached` finds from the strategy's file on, including loaded modules and their imports."""
        home = Path(str(self.home.__file__)) if self.home else self._file
        return reached(home, self.package, self.located, loaded)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """During the block, make `sys.modules` hold the modules of this space instead of others of the same names."""
        _turns.enter(self)
        try:
            yield
        finally:
            _turns.leave(self)

    def __reduce__(self) -> Any:
        raise TypeError("the modules of a strategy cannot be sent to another process; it loads the file itself")

    def _take_from_path(self, before: Sequence[str]) -> None:
        """Keep what the file added to `sys.path` for this space only."""
        for place in [one for one in sys.path if one not in before]:
            sys.path.remove(place)
            self._folders.append(place)

    def _spec_at_top(self, top: str) -> ModuleSpec | None:
        """Return the spec of a top-level module of the project: neither Python's own nor installed."""
        if top in _SHARED or not top.isidentifier():
            return None
        installed = _spec_elsewhere(top)
        if installed is not None and is_shared(installed):
            return None
        return PathFinder.find_spec(top, [*self._folders, *sys.path]) or installed

    def _place(self, name: str) -> tuple[Path | None, list[str]]:
        """Return the source of a module, and of a package the folders; Python's finders need the package loaded."""
        top, *parts = name.split(".")
        spec = self._spec_at_top(top)
        if spec is None:
            return None, []
        file = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
        folders = list(spec.submodule_search_locations or [])
        for part in parts:
            inside = [Path(folder) / part for folder in folders]
            package = next((one for one in inside if (one / "__init__.py").is_file()), None)
            module = next(
                (one.with_name(f"{part}.py") for one in inside if one.with_name(f"{part}.py").is_file()), None
            )
            if package:
                file, folders = package / "__init__.py", [str(package)]
            else:
                file, folders = module, [] if module else [str(one) for one in inside if one.is_dir()]
        return file, folders

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        package = (globals or {}).get("__package__") or ""
        if level and not package:
            return builtins.__import__(name, globals, locals, fromlist or (), level)  # raises as everywhere
        absolute = importlib.util.resolve_name("." * level + name, package) if level else name
        if not self.owns(absolute):
            return builtins.__import__(absolute, globals, locals, fromlist or (), 0)
        module = self.modules.get(absolute)
        if module is not None and all(hasattr(module, one) for one in fromlist or ()):
            return module if fromlist else self.modules[_top(absolute)]
        with _turns.at_once(self):
            return builtins.__import__(absolute, globals, locals, fromlist or (), 0)


def space_of(cls: type[Any]) -> ImportSpace | None:
    """Return the space of the strategy's file that a class was loaded from; None for any other class."""
    kept = vars(sys.modules.get(cls.__module__, builtins)).get("__builtins__")
    found = kept.get("__import__") if isinstance(kept, dict) else None
    space = getattr(found, "__self__", None)
    return space if isinstance(space, ImportSpace) else None


def reached(
    home: Path | None,
    package: str,
    locate: Callable[[str], Mapping[str, tuple[Path, str]]],
    loaded: Mapping[str, Path] | None = None,
) -> dict[str, Path]:
    """
    Return the files of the modules that a file imports, directly or indirectly, by name.

    Args:
        package: the package of the file, "" for none.
        locate: returns file and package of each module that a name refers to; nothing for modules outside the project.
        loaded: further modules that are known to be imported.
    """
    found = dict(loaded or {})
    waiting = [*([(home, package)] if home else []), *((file, package_of(name, file)) for name, file in found.items())]
    while waiting:
        file, above = waiting.pop()
        for name in imported_names(file, above, changed(file)) if file.is_file() else ():
            for one, (local, inside) in locate(name).items():
                if local != home and one not in found:
                    found[one] = local
                    waiting.append((local, inside))
    return found


def package_of(name: str, file: Path) -> str:
    """Return the package at which a module's relative imports start."""
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def changed(file: Path) -> tuple[int, int]:
    """Return time and size of a file's last change."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def source_digest(source: bytes) -> str:
    """Return the SHA-256 of source code, independent of its line ends, which Git may change."""
    return hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest()


@cache  # by time and size of the file's last change; a sweep asks thousands of times
def imported_names(file: Path, package: str, changed: tuple[int, int]) -> tuple[str, ...]:
    """
    Return the dotted names that a file may import: for `from a import b` both a and a.b.

    If a file imports by name (`import_module`), each string in it that may be such a name counts; "a.*" means all
    modules of a package.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ()  # it was another when it was loaded
    return tuple(dict.fromkeys([*_names(tree, package), *_named_in_texts(tree, package)]))


def _names(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            base = _absolute("." * node.level + (node.module or ""), package)
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _named_in_texts(tree: ast.AST, package: str) -> Iterator[str]:
    words = {node.id if isinstance(node, ast.Name) else node.attr for node in ast.walk(tree)
             if isinstance(node, ast.Name | ast.Attribute)}  # fmt: skip
    words |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    if words.isdisjoint(_BY_NAME):
        return
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for text in sorted(texts):
        name = _absolute(text, package) if text.startswith(".") and package else text
        parts = name.removesuffix(".").split(".")
        if all(part.isidentifier() for part in parts):
            yield from _with_parents(".".join(parts))
            if name.endswith("."):
                yield f"{'.'.join(parts)}.*"  # what follows the dot is handled elsewhere


_BY_NAME = {"import_module", "__import__", "find_spec", "run_module", "run_path", "load_module"}


def _absolute(name: str, package: str) -> str:
    try:
        return importlib.util.resolve_name(name, package or None)
    except ImportError:
        return name  # beyond the top, in a line that was never reached


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


@cache
def came_along(file: str) -> bool:
    """
    Return whether a file, or a folder of modules, is part of Python or of an installed package.

    Packages are usually in site-packages. Elsewhere, as after `pip install --target` or in an embedded Python, the file
    lists that pip writes beside a package identify its files.
    """
    path = Path(file)
    if not {"site-packages", "dist-packages"}.isdisjoint(path.parts):
        return True
    python = Path(os.__file__).parent  # sysconfig gives it too, but takes two milliseconds for its first answer
    if os.path.normcase(file).startswith(os.path.normcase(python)):
        return True
    return any(path.relative_to(folder).as_posix() in _installed_in(folder) for folder in path.parents)


@cache
def _installed_in(folder: Path) -> frozenset[str]:
    """Return the files and folders of packages that were installed into a folder, as seen from it."""
    found: set[str] = set()
    with suppress(OSError):
        for record in folder.glob("*.dist-info/RECORD"):
            import csv

            with record.open(encoding="utf-8", errors="replace", newline="") as lines:
                names = [PurePosixPath(row[0]) for row in csv.reader(lines) if row]
            found |= {str(place) for name in names for place in (name, *name.parents)}
    return frozenset(found - {"."})


class _Loader(SourceFileLoader):
    """Runs a module's source as it is on disk now, never cached bytecode, and records its hash."""

    def __init__(self, space: ImportSpace, name: str, path: str) -> None:
        super().__init__(name, path)
        self._space = space

    def exec_module(self, module: ModuleType) -> None:
        """Run the source in the module."""
        space, name = self._space, module.__name__
        vars(module)["__builtins__"] = space.builtins
        space.modules[name] = module
        try:
            super().exec_module(module)
        except BaseException:
            space.modules.pop(name, None)
            space.sources.pop(name, None)
            raise

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the source."""
        source = Path(self.path).read_bytes()
        digest = source_digest(source)
        self._space.sources[fullname] = (Path(self.path), digest)
        return _compiled(digest, self.path, source)


class _Finder:
    """Finds modules of the project for code that imports them by name while a strategy runs, such as `pickle`."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of a module of this thread's active space, if it has one."""
        space = _turns.at_work()
        return space.spec(fullname, path) if space is not None and space.owns(fullname) else None


class _Turns:
    """
    Decides whose modules are in `sys.modules`, of which a process has only one.

    A thread that begins a run waits while another one runs a strategy whose modules have the same names.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._at_work: list[ImportSpace] = []  # the modules of the last one to enter are there
        self._shown: dict[str, ImportSpace] = {}  # by the name at the top
        self._outside: dict[str, dict[str, ModuleType]] = {}  # the modules there for everybody else
        self._here = threading.local()
        self._finder = _Finder()

    def enter(self, space: ImportSpace, wait: bool = True) -> None:
        """Show the modules of a space, once no other space needs their names."""
        with self._changed:
            if wait and not self._of_thread():
                self._changed.wait_for(lambda: not any(self._clash(space, other) for other in self._at_work))
            self._at_work.append(space)
            self._of_thread().append(space)
            if self._finder not in sys.meta_path:
                sys.meta_path.insert(0, self._finder)
            for top in _tops_loaded(sys.modules, space):
                space.owns(top)
            self._settle(space.tops)

    def leave(self, space: ImportSpace) -> None:
        """Restore the names."""
        with self._changed:
            _remove_last(self._of_thread(), space)
            _remove_last(self._at_work, space)
            if not self._at_work and self._finder in sys.meta_path:
                sys.meta_path.remove(self._finder)
            self._settle(space.tops)
            self._changed.notify_all()

    @contextmanager
    def at_once(self, space: ImportSpace) -> Iterator[None]:
        """
        Show the modules of a space for an import, and let no other thread change them meanwhile.

        It does not wait for other threads' runs: one may need this import in order to finish.
        """
        with self._changed:
            self.enter(space, wait=False)
            try:
                yield
            finally:
                self.leave(space)

    def add(self, space: ImportSpace, top: str) -> None:
        """Record that a space has modules below one more name."""
        with self._changed:
            space.tops.add(top)
            self._settle({top})

    def at_work(self) -> ImportSpace | None:
        """Return the space whose strategy runs in this thread; in a thread that a strategy started, the only one."""
        mine, every = self._of_thread(), {id(one): one for one in self._at_work}
        return mine[-1] if mine else next(iter(every.values())) if len(every) == 1 else None

    def _of_thread(self) -> list[ImportSpace]:
        if not hasattr(self._here, "spaces"):
            self._here.spaces = []
        spaces: list[ImportSpace] = self._here.spaces
        return spaces

    def _clash(self, space: ImportSpace, other: ImportSpace) -> bool:
        return space is not other and not space.tops.isdisjoint(other.tops)

    def _settle(self, tops: Iterable[str]) -> None:
        """Set the modules of these names to those of the latest space, or to the shared ones if there is none."""
        wanted = {top: next((one for one in reversed(self._at_work) if top in one.tops), None) for top in tops}
        for top, space in wanted.items():
            before = self._shown.get(top)
            if before is space:
                continue
            entries = {name: module for name, module in list(sys.modules.items()) if _top(name) == top}
            if before is None:
                self._outside[top] = entries
            else:
                before.modules.update(entries)
            for name in entries:
                sys.modules.pop(name, None)
            if space is None:
                sys.modules.update(self._outside.pop(top))
                del self._shown[top]
            else:
                sys.modules.update({name: one for name, one in space.modules.items() if _top(name) == top})
                self._shown[top] = space


_turns = _Turns()


def _tops_loaded(modules: Mapping[str, ModuleType], space: ImportSpace) -> list[str]:
    """Return the loaded top-level names of which a space may have its own module."""
    own = {name for folder in space._folders for name in _importable(folder, _folder_changed(folder))}
    return [name for name in own if name in modules and name not in space.tops]


@lru_cache(maxsize=256)
def _importable(folder: str, changed: int) -> frozenset[str]:
    try:
        return frozenset(one.name.removesuffix(".py") for one in Path(folder).iterdir()) - _SHARED
    except OSError:
        return frozenset()


def _folder_changed(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def _top(name: str) -> str:
    return name.partition(".")[0]


def _remove_last(things: list[ImportSpace], thing: ImportSpace) -> None:
    for place in range(len(things) - 1, -1, -1):
        if things[place] is thing:
            del things[place]
            return


def _package_of(file: Path) -> tuple[Path, str]:
    """Return the folder that holds a file's outermost package, and the dotted name of its own package; "" for none."""
    folder, names = file.parent, list[str]()
    while (folder / "__init__.py").is_file() and folder.name.isidentifier() and folder.parent != folder:
        names.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(names)


def _spec_elsewhere(top: str) -> ModuleSpec | None:
    """Return the spec of a top-level module in this process, outside any space."""
    for finder in sys.meta_path:
        find = None if isinstance(finder, _Finder) else getattr(finder, "find_spec", None)
        found: ModuleSpec | None = find(top, None) if find else None
        if found is not None:
            return found
    return None


def is_shared(spec: ModuleSpec) -> bool:
    """Return whether a module is built in, or part of Python or of an installed package."""
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or [])
    return all(place is not None and came_along(place) for place in places)


@lru_cache(maxsize=512)
def _compiled(digest: str, path: str, source: bytes) -> CodeType:
    code: CodeType = compile(source, path, "exec", dont_inherit=True)
    return code
