"""Public names that are loaded when they are first used (PEP 562).

A command must answer Ctrl-C before it loads NumPy and Pillow, and ``--help`` needs neither.

"""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes longer to load than this whole module
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazily(package: str, public: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package with lazily loaded names.

    Args:
        package: The package's name.
        public: For each public name, the module below the package that defines it. A name that equals the last part
            of its module stands for the module itself.
    """

    def load(name: str) -> Any:
        from importlib import import_module

        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{public[name]}")
        return module if public[name].rpartition(".")[2] == name else getattr(module, name)

    return load, lambda: sorted((*public, "__version__"))
