"""The way through the activations and the weights of a tile: segments, and steps within them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.tiling import Tiling
from qcomp.targets.cpu.emit.builder import Carried, Value, at, multiple, repeat
from qcomp.targets.cpu.emit.i16.segments import over_segments
from qcomp.targets.cpu.emit.i16.spec import ProductSpec

# (sums, the activations of each pixel, weights, steps) -> sums
Add = Callable[[Carried, Sequence[Value], Value, int], Carried]
Run = Callable[[Carried], Carried]


@dataclass(frozen=True, eq=False)
class Walk:
    """Of one tile; `x` points to its first pixel, `w` to the weights of its vectors. So many steps
    `together` are in straight code.
    """

    tiling: Tiling
    together: int
    x: Value
    w: Value

    @property
    def spec(self) -> ProductSpec:
        return self.tiling.spec

    @property
    def steps(self) -> int:
        """Of all segments."""
        return self.spec.segment_count * self.tiling.steps

    def everything(self, b: ir.IRBuilder, sums: Carried, add: Add) -> Carried:
        return self._segments(
            b, sums, lambda x, w, sums: self._run(b, x, w, self.tiling.steps, sums, add)
        )

    def by_parts(
        self,
        b: ir.IRBuilder,
        most: int,
        totals: Carried,
        add: Add,
        join: Callable[[Carried, Run], Carried],
    ) -> Carried:
        """join(totals, run) for at most so many steps at a time, which `run` adds to sums."""
        whole, rest = divmod(self.tiling.steps, most)

        def segment(x: Value, w: Value, totals: Carried) -> Carried:
            def part(n: Value | int, totals: Carried, steps: int = most) -> Carried:
                first = multiple(b, n, most)
                p = at(b, x, multiple(b, first, self._activation))
                q = at(b, w, multiple(b, first, self._weights))
                return join(totals, lambda sums: self._run(b, p, q, steps, sums, add))

            totals = repeat(b, whole, totals, part, "part")
            return part(whole, totals, rest) if rest else totals

        return self._segments(b, totals, segment)

    @property
    def _activation(self) -> int:
        """Bytes of a step of one pixel."""
        width: int = self.spec.source.width
        return self.tiling.group * width // 8

    @property
    def _weights(self) -> int:
        """Bytes of a step of a block."""
        return self.tiling.group * self.tiling.block

    def _segments(
        self, b: ir.IRBuilder, sums: Carried, body: Callable[[Value, Value, Carried], Carried]
    ) -> Carried:
        """body(activations, weights, sums) for each."""
        inner = self.tiling.steps * self._weights

        def segment(x: Value | int, n: Value | int, sums: Carried) -> Carried:
            return body(at(b, self.x, x), at(b, self.w, multiple(b, n, inner)), sums)

        return over_segments(b, self.spec.segments, sums, segment)

    def _run(
        self, b: ir.IRBuilder, x: Value, w: Value, steps: int, sums: Carried, add: Add
    ) -> Carried:
        """Neighbouring steps."""

        together = self.together

        def trip(n: Value | int, sums: Carried, count: int = together) -> Carried:
            first = multiple(b, n, together)
            p = at(b, x, multiple(b, first, self._activation))
            pixels = range(self.tiling.pixels)
            each = [at(b, p, pixel * self.spec.columns.src) for pixel in pixels]
            return add(sums, each, at(b, w, multiple(b, first, self._weights)), count)

        trips, rest = divmod(steps, together)
        sums = repeat(b, trips, sums, trip, "k")
        return trip(trips, sums, rest) if rest else sums
