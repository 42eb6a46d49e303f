"""A loop linearised at all of its rows: fast derivatives of the first and the second order.

Let a step be s = f(a, s_prev, p), unit by unit, with the gates a = base + w h_prev, and what it reads beside, p. With
the Jacobian J of f at all rows, derivatives are linear recurrences of a few operations a step:

    first order     d_prev = J' d + w' d_a                  the gradients of base, w, p and s0, in the direction d
    second order    m = J m_prev + …                        the gradient of d, for changes v of base, w, p and s0
                    e_prev = J' e + w' e_a + v_w' d_a + K   the gradients of base, w, p and s0 for the same changes

K is the derivative of J' d in the direction m: autograd computes it for one step of all rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .loop import Inputs, Loop, Maybe
from .visits import Visit


def zeros(like: Tensor) -> Tensor:
    """Zeros that take no time."""
    return like.new_zeros(()).expand(like.shape)


class Adjoints(NamedTuple):
    """Of all rows: gradients of the states after the step (rows, S, H), and of gates and states before it."""

    after: Tensor
    before: Tensor  # (rows, G + S, H); without what w passes on to h


class Linearised:
    """A loop with these inputs; earlier: the states before each step (rows, H), and the gates (rows, G*H), if any.

    The leaves of a step are its gates, the states before it, and what it reads beside, each (rows, H).
    """

    def __init__(self, loop: Loop, inputs: Inputs, earlier: Sequence[Tensor]) -> None:
        self.loop, self.inputs, self.earlier = loop, inputs, earlier[: loop.states]
        self.shape = earlier[0].shape  # rows, H
        self.first, self.last, self.restarts = loop.ends()
        self.G = len(loop.gates) if inputs.w is not None else 0
        self.first_read = self.G + loop.states
        parts = [part for gates in earlier[loop.states :] for part in gates.chunk(self.G, 1)]
        with torch.enable_grad():
            self.leaves = [
                one.detach().expand(self.shape).requires_grad_() for one in (*parts, *self.earlier, *inputs.reads)
            ]
            known = loop.known(self.leaves[self.first_read :], self.leaves[self.G : self.first_read])
            known |= dict(zip(loop.gates, self.leaves[: self.G], strict=True))
            y, *self.after = loop.step(loop.constants, known, tuple(self.shape))
        self.y = y if loop.step.output < 0 else None
        slopes = torch.stack([self._slopes(one) for one in self.after])  # (S, leaves, rows, H)
        self.jacobian = slopes[:, : self.first_read].permute(2, 0, 1, 3).contiguous()
        self.of_reads = slopes[:, self.first_read :]
        self.of_output = None if self.y is None else self._slopes(self.y)  # (leaves, rows, H)

    def _slopes(self, result: Tensor) -> Tensor:
        """The derivative of a result for each leaf, unit by unit."""
        if not result.requires_grad:
            return result.new_zeros(len(self.leaves), *self.shape)
        ones = torch.ones_like(result)
        found = torch.autograd.grad(result, self.leaves, ones, retain_graph=True, allow_unused=True)
        return torch.stack([torch.zeros_like(result) if one is None else one for one in found])

    # ---- the first order ----

    def backward(self, dy: Tensor, d_final: Sequence[Tensor]) -> tuple[Adjoints, Tensor]:
        """The adjoints of all rows, and the gradients (B, S, H) of the initial states."""
        after, more = self._new_rows(self.loop.states), None
        if self.of_output is None:
            after[:, self.loop.step.output] = dy
        else:
            more = (self.of_output[: self.first_read] * dy).transpose(0, 1)
        return self._backward(after, more, torch.stack(tuple(d_final), 1))

    def _backward(self, after: Tensor, more: Maybe, d_final: Tensor) -> tuple[Adjoints, Tensor]:
        """after: what is added to `Adjoints.after`, which takes its place; more: the same for `Adjoints.before`."""
        loop, G, w = self.loop, self.G, self.inputs.w
        after[self.last] += d_final[: len(self.last)]
        before = after.new_empty(self.shape[0], self.first_read, self.shape[1])
        jacobian = self.jacobian[:, 0] if loop.states == 1 else self.jacobian
        # Views of the rows of each step, so that a step takes a few operations.
        slopes, of_before, gates = self._by_step(jacobian, before, self._flat_gates(before))
        afters, of_h, of_states = self._by_step(after, after[:, 0], before[:, G:])
        mores = None if more is None else more.split(loop.sizes)
        factors = afters if loop.states == 1 else after.unsqueeze(2).split(loop.sizes)
        later: Visit | None = None
        for visit in reversed(loop.steps):
            t = visit.t
            if later is not None and later.n == visit.n and later.restarts is None:
                afters[t].add_(of_states[later.t])
                if w is not None:
                    of_h[t].addmm_(gates[later.t], w)
            elif later is not None:
                n = min(later.n, visit.n)
                passed = self._passed(of_states[later.t][:n], gates[later.t][:n])
                if later.restarts is not None:
                    passed = passed.masked_fill(later.restarts[:n].unsqueeze(2), 0)
                afters[t][:n] += passed
            if loop.states == 1:
                torch.mul(slopes[t], factors[t], out=of_before[t])
            else:
                torch.sum(slopes[t] * factors[t], 1, out=of_before[t])
            if mores is not None:
                of_before[t].add_(mores[t])
            later = visit
        d_initial = self._passed(before[self.first, G:], self._flat_gates(before)[self.first])
        if self.restarts is not None:
            d_initial = d_initial.masked_fill(self.restarts[self.first].unsqueeze(2), 0)
        return Adjoints(after, before), torch.cat([d_initial, d_final[len(self.last) :]])

    def _passed(self, of_states: Tensor, of_gates: Tensor) -> Tensor:
        """What adjoints of a step pass on to the states before it."""
        if self.inputs.w is None:
            return of_states
        passed = of_states.clone()
        passed[:, 0].addmm_(of_gates, self.inputs.w)
        return passed

    def _new_rows(self, count: int) -> Tensor:
        return self.earlier[0].new_zeros(self.shape[0], count, self.shape[1])

    def _flat_gates(self, before: Tensor) -> Tensor:
        """The view (rows, G*H) of the gates."""
        return before.flatten(1)[:, : self.G * self.shape[1]]

    def _by_step(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        return [one.split(self.loop.sizes) for one in tensors]

    def gradients(self, d: Adjoints, d_initial: Tensor, dy: Maybe) -> Inputs:
        """Of all inputs. dy: of the first order; None: of the second."""
        of_reads = (self.of_reads * d.after.transpose(0, 1).unsqueeze(1)).sum(0)
        if dy is not None and self.of_output is not None:
            of_reads = of_reads + self.of_output[self.first_read :] * dy
        reads = [one.sum_to_size(read.shape) for one, read in zip(of_reads, self.inputs.reads, strict=True)]
        if self.inputs.w is None:
            return Inputs(None, None, reads, list(d_initial.unbind(1)))
        of_gates = d.before[:, : self.G].flatten(1)
        is_read = dy is None or self.loop.twice is None or not self.loop.twice.skips
        of_w = of_gates.t() @ self.earlier[0] if is_read else zeros(self.inputs.w)
        return Inputs(of_gates, of_w, reads, list(d_initial.unbind(1)))

    # ---- the second order ----

    def second_order(self, dy: Tensor, d: Adjoints, v: Inputs) -> tuple[Tensor, list[Tensor], Inputs]:
        """The gradients of dy, of the gradients of the final states, and of the inputs; v: of `gradients`."""
        moved_reads = [None if one is None else one.expand(self.shape) for one in v.reads]
        moved, after, final = self._moved(v, moved_reads)
        of_dy = after[:, self.loop.step.output]
        if self.of_output is not None:
            every = [*moved.unbind(1), *moved_reads]
            terms = [slope * one for slope, one in zip(self.of_output, every, strict=True) if one is not None]
            of_dy = torch.stack(terms).sum(0)
        curved, of_reads = self._curvature(dy, d, [*moved.unbind(1), *moved_reads])
        if v.w is not None:
            curved[:, self.G] += d.before[:, : self.G].flatten(1) @ v.w
        e, e_initial = self._backward(self._new_rows(self.loop.states), curved, torch.zeros_like(final))
        found = self.gradients(e, e_initial, None)
        reads = [
            one if more is None else one + more.sum_to_size(one.shape)
            for one, more in zip(found.reads, of_reads, strict=True)
        ]
        of_w = found.w
        if of_w is not None:
            of_w = of_w + d.before[:, : self.G].flatten(1).t() @ moved[:, self.G]
        return of_dy, list(final.unbind(1)), Inputs(found.base, of_w, reads, found.initial)

    def _moved(self, v: Inputs, moved_reads: Sequence[Maybe]) -> tuple[Tensor, Tensor, Tensor]:
        """For changes of the inputs: those of gates and states before each step, states after it, and final states."""
        loop, G, w = self.loop, self.G, self.inputs.w
        before = self._new_rows(self.first_read)
        gates, states = self._flat_gates(before), before[:, G:]
        if v.base is not None:
            gates += v.base
        if v.w is not None:
            gates.addmm_(self.earlier[0], v.w.t())
        initial = [
            self.earlier[0].new_zeros(one.shape) if moved is None else moved
            for one, moved in zip(self.inputs.initial, v.initial, strict=True)
        ]
        stacked = torch.stack(initial, 1)
        states[self.first] = stacked[: len(self.first)]
        if self.restarts is not None:
            states.masked_fill_(self.restarts.unsqueeze(2), 0)
        terms = [
            slopes * one for slopes, one in zip(self.of_reads.unbind(1), moved_reads, strict=True) if one is not None
        ]
        more = torch.stack(terms).sum(0).transpose(0, 1) if terms else None
        mores = None if more is None else more.split(loop.sizes)
        slopes, factors = self._by_step(self.jacobian, before.unsqueeze(1))
        of_gates, of_h, of_states = self._by_step(gates, before[:, G], states)
        w_t = None if w is None else w.t()
        for visit, later in zip(loop.steps, [*loop.steps[1:], None], strict=True):
            t = visit.t
            if w_t is not None:
                of_gates[t].addmm_(of_h[t], w_t)
            if later is None:
                continue
            if later.n == visit.n and later.restarts is None:
                found = torch.sum(slopes[t] * factors[t], 2, out=of_states[later.t])
                if mores is not None:
                    found.add_(mores[t])
                continue
            found = (slopes[t] * factors[t]).sum(2)
            found = found if mores is None else found + mores[t]
            n = min(later.n, visit.n)
            if later.restarts is not None:
                found = found[:n].masked_fill(later.restarts[:n].unsqueeze(2), 0)
            of_states[later.t][:n] = found[:n]
        after = (self.jacobian * before.unsqueeze(1)).sum(2)
        after = after if more is None else after + more
        return before, after, torch.cat([after[self.last], stacked[len(self.last) :]])

    def _curvature(self, dy: Tensor, d: Adjoints, moved: Sequence[Maybe]) -> tuple[Tensor, list[Maybe]]:
        """K, the derivative of J' d in the direction `moved`: of gates and states, and of what a step reads beside."""
        results = list(zip(self.after, d.after.unbind(1), strict=True))
        results += [] if self.y is None else [(self.y, dy)]
        results = [(one, weight) for one, weight in results if one.requires_grad]
        found: Sequence[Maybe] = [None] * len(self.leaves)
        with torch.enable_grad():
            outputs, weights = [one for one, _ in results], [weight for _, weight in results]
            first = torch.autograd.grad(outputs, self.leaves, weights, create_graph=True, allow_unused=True)
            pairs = [
                (one, m)
                for one, m in zip(first, moved, strict=True)
                if one is not None and m is not None and one.requires_grad
            ]
            if pairs:
                slopes, directions = [one for one, _ in pairs], [m for _, m in pairs]
                found = torch.autograd.grad(slopes, self.leaves, directions, retain_graph=True, allow_unused=True)
        zero = self.earlier[0].new_zeros(self.shape)
        of_states = torch.stack([zero if one is None else one for one in found[: self.first_read]], 1)
        return of_states, list(found[self.first_read :])
