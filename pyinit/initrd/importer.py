# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The import system of the frozen executable: built-in modules and frozen ones, nothing else.

It is frozen as `_frozen_importlib`, the module whose functions the interpreter calls for `import`;
importlib's own would work, and costs 0.4 ms at every start. No search path, no finders, no locks
(one thread), so that no import can ever reach a file.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import NoReturn

    class Sys(ModuleType):
        modules: dict[str, ModuleType]

    class Imp(ModuleType):
        def is_builtin(self, name: str, /) -> int: ...
        def create_builtin(self, spec: object, /) -> ModuleType: ...
        def exec_builtin(self, module: ModuleType, /) -> int: ...
        def is_frozen(self, name: str, /) -> bool: ...
        def is_frozen_package(self, name: str, /) -> bool: ...
        def get_frozen_object(self, name: str, /) -> CodeType: ...

    sys: Sys
    imp: Imp

loading = True


class Spec:
    """A module's __spec__, with the attributes that the interpreter reads."""

    def __init__(self, name: str, origin: str, parent: str) -> None:
        self.name = name
        self.origin = origin
        self.parent = parent
        self.has_location = False
        self.submodule_search_locations: list[str] | None = None
        self._initializing = False


def _install(sys_module: "Sys", imp_module: "Imp") -> None:
    """The interpreter's first call."""
    global sys, imp
    sys = sys_module
    imp = imp_module


def _find_and_load(name: str, import_: object) -> "ModuleType":
    """The module of that absolute name, loaded where it is not yet in sys.modules."""
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules:
        _find_and_load(parent, import_)
    module = sys.modules.get(name)
    if module is None:
        if not loading:
            _not_found(name)
        if imp.is_builtin(name):
            module = _load_builtin(name)
        elif imp.is_frozen(name):
            module = _load_frozen(name, parent)
        else:
            _not_found(name)
        if parent:
            setattr(sys.modules[parent], name.rpartition(".")[2], module)
    return module


def _not_found(name: str) -> "NoReturn":
    raise ModuleNotFoundError(f"no module named {name!r} in this executable", name=name)


def _close() -> None:
    """Before the snapshot is taken: all that there is is loaded, and what loads is left out."""
    global loading, _load_builtin, _load_frozen
    loading = False
    del _load_builtin, _load_frozen


def _load_builtin(name: str) -> "ModuleType":
    spec = Spec(name, "built-in", "")
    module = imp.create_builtin(spec)
    module.__spec__ = spec  # type: ignore[assignment]
    sys.modules[name] = module
    imp.exec_builtin(module)
    return module


def _load_frozen(name: str, parent: str) -> "ModuleType":
    module = type(sys)(name)
    package = imp.is_frozen_package(name)
    module.__package__ = name if package else parent
    spec = Spec(name, "frozen", module.__package__)
    module.__spec__ = spec  # type: ignore[assignment]
    if package:
        module.__path__ = spec.submodule_search_locations = []
    sys.modules[name] = module
    try:
        exec(imp.get_frozen_object(name), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _handle_fromlist(module: "ModuleType", names: tuple[str, ...], import_: object) -> "ModuleType":
    """`from package import module`: loads what is not an attribute yet."""
    for name in names:
        if loading and not hasattr(module, name):
            full = f"{module.__name__}.{name}"
            if imp.is_frozen(full):
                _find_and_load(full, import_)
    return module


def _lock_unlock_module(name: str) -> None:
    """Waits for another thread's import; there is none."""
