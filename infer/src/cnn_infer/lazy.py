"""Public names that are loaded on first use (PEP 562).

``cnn-infer --help`` needs neither NumPy nor Pillow, and every command must answer Ctrl-C before they are loaded.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing takes longer than importing this module
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazily(package: str, public: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of a package with lazily loaded names.

    Args:
        package: The package's full name.
        public: For each public name, the module that defines it, relative to the package. A name that equals the last
            part of its module stands for the module itself.
    """

    def load(name: str) -> Any:
        from importlib import import_module

        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{public[name]}")
        return module if public[name].rpartition(".")[2] == name else getattr(module, name)

    return load, lambda: sorted(public)
