"""Objects of one kind by name: the package's own, imported on first use, and registered ones."""

from __future__ import annotations

from importlib import import_module
from typing import Generic, TypeVar

from dff_edge.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Looks up objects by name.

    Args:
        kind: what they are, in messages, such as "task".
        package: the package that holds a module for each of its own, by its name.
        attribute: name of the object in its module.
        names: names of the package's own, in order.
    """

    def __init__(self, kind: str, package: str, attribute: str, names: tuple[str, ...]) -> None:
        self._kind = kind
        self._package = package
        self._attribute = attribute
        self._own = names
        self._added: dict[str, T] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all objects."""
        return (*self._own, *self._added)

    def find(self, name: str) -> T:
        """Return the object of a name.

        Raises:
            ConfigError: there is none.
        """
        if name in self._added:
            return self._added[name]
        if name not in self._own:
            raise ConfigError(f"{self._kind} is '{name}', expected one of {', '.join(self.names)}.")
        found: T = getattr(import_module(f"{self._package}.{name}"), self._attribute)
        return found

    def register(self, name: str, thing: T) -> None:
        """Add an object from outside the package.

        Raises:
            ConfigError: the name is taken.
        """
        if name in self.names:
            raise ConfigError(f"there is a {self._kind} '{name}' already; give yours another name.")
        self._added[name] = thing

    def unregister(self, name: str) -> None:
        """Remove an object added by ``register``; a missing one is not an error."""
        self._added.pop(name, None)
