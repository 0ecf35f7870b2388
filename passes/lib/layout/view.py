"""A chain of Reshape and Transpose as one permutation of atoms (the factors of the axes).

The source's axes split into *atoms*, the smallest pieces that the chain keeps whole. A Transpose
permutes them, a Reshape only groups them anew (and may split them further). Neighbours that were
neighbours in the source merge into *blocks*; where the blocks are in the order of the source, the
whole chain is a Reshape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops import Op, Reshape, Transpose
from qcomp.passes.lib.layout.permutation import Permutation, Shape


@dataclass(frozen=True)
class Atom:
    """A piece of a source axis; keys sort as the pieces lie in the source."""

    key: tuple[int, ...]
    extent: int


@dataclass(frozen=True)
class View:
    """A rearranged source: consecutive atoms multiply up to the axes of `shape`."""

    source: Shape
    atoms: tuple[Atom, ...]
    shape: Shape

    @classmethod
    def of(cls, shape: Shape) -> Self:
        """The source as it is; axes of extent 1 need no atom."""
        atoms = tuple(Atom((i,), e) for i, e in enumerate(shape) if e != 1)
        return cls(shape, atoms, shape)

    def then(self, op: Op) -> View | None:
        """The view after one more op; None if it is another op, or splits across atoms."""
        if isinstance(op, Transpose):
            return self._transposed(op.permutation)
        return self._reshaped(op.shape) if isinstance(op, Reshape) else None

    def _transposed(self, permutation: Permutation) -> View:
        groups = self._groups()
        atoms = tuple(atom for i in permutation for atom in groups[i])
        return View(self.source, atoms, tuple(self.shape[i] for i in permutation))

    def _reshaped(self, shape: Shape) -> View | None:
        queue = list(self.atoms)
        atoms = []
        for extent in shape:
            rest = extent
            while rest > 1:
                atom = queue.pop(0)
                if rest % atom.extent == 0:
                    atoms.append(atom)
                    rest //= atom.extent
                elif atom.extent % rest == 0:
                    atoms.append(Atom((*atom.key, 0), rest))
                    queue.insert(0, Atom((*atom.key, 1), atom.extent // rest))
                    rest = 1
                else:
                    return None
        return View(self.source, tuple(atoms), shape)

    def _groups(self) -> list[list[Atom]]:
        """The atoms of each axis of `shape`."""
        queue = list(self.atoms)
        groups: list[list[Atom]] = []
        for extent in self.shape:
            group: list[Atom] = []
            while math.prod(a.extent for a in group) < extent:
                group.append(queue.pop(0))
            groups.append(group)
        return groups

    def blocks(self) -> tuple[Shape, Permutation]:
        """Extents of the blocks in the order of the source, and which of them stands where."""
        rank = {key: i for i, key in enumerate(sorted(a.key for a in self.atoms))}
        runs: list[list[Atom]] = []
        for atom in self.atoms:
            if runs and rank[runs[-1][-1].key] + 1 == rank[atom.key]:
                runs[-1].append(atom)
            else:
                runs.append([atom])
        order = sorted(range(len(runs)), key=lambda i: rank[runs[i][0].key])
        extents = tuple(math.prod(a.extent for a in runs[i]) for i in order)
        return extents, tuple(order.index(i) for i in range(len(runs)))

    @property
    def is_reshape(self) -> bool:
        extents, permutation = self.blocks()
        return permutation == tuple(range(len(extents)))

    def shuffle(self) -> tuple[int, NDArray[np.int64]] | None:
        """(axis, indices) where the view is a Gather along one axis of a source of this shape."""
        extents, permutation = self.blocks()
        if self.source != self.shape or self.is_reshape:
            return None
        moved = [i for i, p in enumerate(permutation) if i != p]
        first, last = moved[0], moved[-1]
        before, behind = math.prod(extents[:first]), math.prod(extents[last + 1 :])
        for axis, extent in enumerate(self.shape):
            outer, inner = math.prod(self.shape[:axis]), math.prod(self.shape[axis + 1 :])
            if extent > 1 and before % outer == 0 and behind % inner == 0:
                grid = (before // outer, *extents[first : last + 1], behind // inner)
                order = (p - first + 1 for p in permutation[first : last + 1])
                indices = np.arange(extent, dtype=np.int64).reshape(grid)
                indices = indices.transpose(0, *order, len(grid) - 1)
                return axis, np.ascontiguousarray(indices.reshape(-1))
        return None
