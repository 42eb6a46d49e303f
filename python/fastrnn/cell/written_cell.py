"""A cell that a user wrote: its program, and its step as a plain function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from . import interpret
from .describe import describe
from .names import Gates, Names, Vectors, gates_of_arrays, getter
from .program import Program
from .program_text import from_text, text
from .trace import PARAMETERS, parameters_of


class WrittenCell:
    """A cell; `cell` makes it of a function, and `from_text` of a program's text.

    Called on arrays, it is the function: ``output, states = cell(a, s, v)``. Each argument is a mapping of names to
    arrays of shape (..., H), or an object with such attributes. The halves of gates are members ``input`` and ``state``
    of ``a``, and the products of the step are functions in its member ``product``. A cell that was loaded has no
    function, and its program takes the function's place.

    Attributes
    ----------
    program : Program
        What every interpreter runs.
    """

    def __init__(self, program: Program, step: Callable[..., Any] | None = None) -> None:
        self.program = program
        self.step = step
        self.__name__ = program.name
        self.__doc__ = None if step is None else step.__doc__

    @classmethod
    def from_text(cls, source: str) -> WrittenCell:
        """The cell of a program's JSON text.

        Parameters
        ----------
        source : str

        Returns
        -------
        WrittenCell

        Raises
        ------
        ValueError
            For text that is no program; the message names the place.
        """
        return cls(from_text(source))

    @functools.cached_property
    def text(self) -> str:
        """The program as canonical JSON text."""
        return text(self.program)

    def __repr__(self) -> str:
        return describe(self.program)

    def __eq__(self, other: object) -> bool:
        return self.program == other.program if isinstance(other, WrittenCell) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        return WrittenCell.from_text, (self.text,)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The output and the states after one step, on arrays; see the class."""
        names = PARAMETERS if self.step is None else parameters_of(self.step)
        parameters = [inspect.Parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in names]
        given = inspect.Signature(parameters).bind_partial(*args, **options).arguments
        arguments = self._arguments(given)
        if self.step is not None:
            return self.step(**{one: arguments[one] for one in names})
        return self._interpreted(**arguments)

    def _arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        program = self.program

        def named(kind: str, names: tuple[str, ...], argument: str) -> Names:
            return Names(kind, names, getter(kind, names, given.get(argument, {})))

        return {
            "a": gates_of_arrays(program.gates, given.get("a", {})),
            "s": named("state", tuple(one.name for one in program.states), "s"),
            "v": Vectors(program.vectors, program.gates, getter("vector", program.vectors, given.get("v", {}))),
            "x": named("input", tuple(one.name for one in program.inputs), "x"),
            "o": named("option", tuple(one.name for one in program.options), "o"),
        }

    def _interpreted(self, a: Gates, s: Names, v: Names, x: Names, o: Names) -> Any:
        """The program in place of the function."""
        program, reads = self.program, dict[str, Any]()
        gates: dict[str, Names] = {"gate": a, "gate_input": a.input, "gate_state": a.state}
        members = gates | {"before": s, "vector": v, "input": x, "option": o}
        for value in program.forward.values:
            kind, _, name = str(value.name).partition(".")
            if value.op == "read" and kind in members:
                reads[f"{kind}.{name}"] = getattr(members[kind], name)
        rows = [product.gate for product in program.products]
        outputs = interpret.forward(program, reads, lambda k, vector: getattr(a.product, rows[k])(vector))
        after = tuple(outputs[f"after.{one.name}"] for one in program.states)
        return outputs["y"] if program.output is None else outputs[f"after.{program.output}"], after
