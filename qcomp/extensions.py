"""What other packages add: passes, estimators, targets and rules of ONNX operators, by name.

A package declares entry points, which Python's metadata lists without importing anything:

    [project.entry-points."qcomp.estimators"]
    "acme.trimmed" = "acme_quant:trimmed"

A name that is not qcomp's own has a dot, so that none ever becomes qcomp's own later. Nothing is
looked up, let alone imported, before such a name is asked for. An entry point that can't be
imported is an ExtensionError that names it, and no concern of the others.

What `add` was told is known to this process only: to programs and notebooks that are no package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qcomp.errors import ExtensionError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
_DOT = "."


def is_own(name: object) -> bool:
    """Whether a name is one of an extension, which have a dot, and not qcomp's own."""
    return isinstance(name, str) and _DOT in name


@dataclass(frozen=True)
class Found(Generic[T]):
    """An extension, and where it is from, for people: `acme_quant:trimmed of acme 1.2`."""

    name: str
    value: T
    source: str


@dataclass(eq=False)
class Registry(Generic[T]):
    """The extensions of one kind.

    group: of the entry points.
    constant: the registry's name in this module.
    what: an extension is called by messages, such as "estimator".
    """

    group: str
    constant: str
    what: str
    _added: dict[str, Found[T]] = field(default_factory=dict)
    _imported: dict[tuple[str, str], Found[T]] = field(default_factory=dict)
    _listed: dict[tuple[str, ...], Mapping[str, list[EntryPoint]]] = field(default_factory=dict)

    def add(self, name: str, value: T) -> None:
        """Make an extension known to this process; it comes before an entry point of its name."""
        self.check_name(name)
        where = f"{getattr(value, '__module__', '?')}:{getattr(value, '__qualname__', name)}"
        self._added[name] = Found(name, self._checked(name, value, where), where)

    def remove(self, name: str) -> None:
        """Forget what `add` was told."""
        del self._added[name]

    def check_name(self, name: object) -> None:
        """ExtensionError for a name without a dot."""
        if not is_own(name):
            raise ExtensionError(
                f"{self.what} {name!r}: names of extensions have a dot, such as 'acme.{name}'"
            )

    def has(self, name: str) -> bool:
        """Whether there is one of this name; nothing is imported."""
        return name in self._added or name in self._entry_points()

    def names(self) -> Mapping[str, str]:
        """Where each is from, by name; nothing is imported."""
        listed = {name: _source(points[0]) for name, points in self._entry_points().items()}
        return dict(sorted({**listed, **{n: f.source for n, f in self._added.items()}}.items()))

    def find(self, name: str) -> Found[T]:
        """The extension of a name, imported if it has to be; ExtensionError says why it is not."""
        if name in self._added:
            return self._added[name]
        points = self._entry_points().get(name)
        if points is None:
            names = ", ".join(self.names()) or "none"
            raise ExtensionError(
                f"no {self.what} {name!r} is known: neither an entry point of the group "
                f"{self.group} nor told to qcomp.extensions.{self.constant}.add; there are {names}"
                f"{did_you_mean(name, self.names())}"
            )
        if len(points) > 1:
            raise ExtensionError(
                f"{self.what} {name!r} is there {len(points)} times: "
                f"{'; '.join(map(_source, points))}; expected one"
            )
        return self._loaded(name, points[0])

    def _loaded(self, name: str, point: EntryPoint) -> Found[T]:
        key = name, point.value
        if key not in self._imported:
            source = _source(point)
            try:
                value = point.load()
            except Exception as error:  # of a module that is not ours, whatever it raises
                raise ExtensionError(
                    f"{self.what} {name!r}, {source}, can't be imported: "
                    f"{type(error).__name__}: {error}"
                ) from error
            self._imported[key] = Found(name, self._checked(name, value, source), source)
        return self._imported[key]

    def _checked(self, name: str, value: Any, source: str) -> T:
        if not callable(value):
            raise ExtensionError(
                f"{self.what} {name!r}, {source}: expected something to call, got {value!r}"
            )
        found: T = value
        return found

    def _entry_points(self) -> Mapping[str, list[EntryPoint]]:
        """By name, those with a dot; read again when the path of imports is another."""
        path = tuple(sys.path)
        if path not in self._listed:
            from importlib.metadata import entry_points

            found: dict[str, list[EntryPoint]] = {}
            for point in entry_points(group=self.group):
                if is_own(point.name):
                    found.setdefault(point.name, []).append(point)
            self._listed = {path: found}
        return self._listed[path]


def _source(point: EntryPoint) -> str:
    of = "" if point.dist is None else f" of {point.dist.name} {point.dist.version}"
    return f"{point.value}{of}"


PASSES: Registry[Callable[..., Any]] = Registry("qcomp.passes", "PASSES", "pass")
"""Classes whose instances are passes (`qcomp.passes.base.Pass`)."""

ESTIMATORS: Registry[Callable[..., Any]] = Registry("qcomp.estimators", "ESTIMATORS", "estimator")
"""Functions of a distribution and a grid (`qcomp.quant.estimators.Estimator`)."""

TARGETS: Registry[Callable[[], Any]] = Registry("qcomp.targets", "TARGETS", "target")
"""Classes, or functions without arguments, that make a target (`qcomp.targets.base.Target`)."""

ONNX_RULES: Registry[Callable[..., None]] = Registry("qcomp.onnx_rules", "ONNX_RULES", "rule")
"""Functions of a node (`qcomp.frontends.onnx.context.Rule`), by `DOMAIN.OPERATOR`."""

REGISTRIES = (PASSES, ESTIMATORS, TARGETS, ONNX_RULES)
