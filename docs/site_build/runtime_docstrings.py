"""Griffe extension: docstrings that the package puts together when it is imported, as ``help()`` shows them.

Pages are made from the source, which is read and not run. There the docstrings of layers and cells are templates, and
`fastrnn.lstm` and its kin are instances of a class that can be called: pages show them as the functions that they are.
"""

from typing import Any

import fastrnn
import griffe

LAYERS = ("LSTM", "GRU", "RNN")
CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


class RuntimeDocstrings(griffe.Extension):
    """Replaces the docstrings of layers and cells by those that they have at run time."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called once all of the package has been read."""
        for name in LAYERS:
            layer = pkg[f"layers.{name}"]
            layer.docstring = griffe.Docstring(getattr(fastrnn, name).__doc__, parent=layer)
        functions = dict.fromkeys(CELLS, ("cells", "Cell")) | {"linear_recurrence": ("linear", "LinearRecurrence")}
        for name, (module, kind) in functions.items():
            attribute, call = pkg[f"{module}.{name}"], pkg[f"{module}.{kind}.__call__"]
            function = griffe.Function(
                name,
                parameters=griffe.Parameters(*list(call.parameters)[1:]),
                returns=call.returns,
                lineno=attribute.lineno,
                endlineno=attribute.endlineno,
            )
            function.docstring = griffe.Docstring(getattr(fastrnn, name).__doc__, parent=function)
            pkg[module].set_member(name, function)
