"""Things of one kind by name: those of the package, imported at their first use, and added ones."""

from __future__ import annotations

from importlib import import_module
from typing import Generic, TypeVar

from dff_edge.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Finds things by name.

    Args:
        kind: what they are called in messages, such as "task".
        package: the package that holds a module for each of its own, by its name.
        attribute: what the thing is called in its module.
        names: those of the package, in order.
    """

    def __init__(self, kind: str, package: str, attribute: str, names: tuple[str, ...]) -> None:
        self._kind = kind
        self._package = package
        self._attribute = attribute
        self._own = names
        self._added: dict[str, T] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that there are."""
        return (*self._own, *self._added)

    def find(self, name: str) -> T:
        """Return the thing of a name.

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
        """Add a thing from outside the package.

        Raises:
            ConfigError: the name is taken.
        """
        if name in self.names:
            raise ConfigError(f"there is a {self._kind} '{name}' already; give yours another name.")
        self._added[name] = thing

    def unregister(self, name: str) -> None:
        """Take out what ``register`` added; one that is not there is no error."""
        self._added.pop(name, None)
