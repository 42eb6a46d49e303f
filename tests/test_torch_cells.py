"""Cells that a user writes, against torch's autograd of the same formula: values and gradients of every argument."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cell_cases import PROOF, SHIPPED, layer_arrays, named_gradients, run_layer
from fastrnn.cell import loop
from torch.nn.functional import layer_norm


def halves(p, x, h, gates):
    """The halves of the pre-activations by gate."""
    of_input, of_state = x @ p["w_ih"].T + p["b_ih"], h @ p["w_hh"].T + p["b_hh"]
    return of_input.chunk(gates, -1), of_state.chunk(gates, -1)


def step_lstm(p, x, s):
    i, f, g, o = (a + b for a, b in zip(*halves(p, x, s["h"], 4), strict=True))
    c = torch.sigmoid(f) * s["c"] + torch.sigmoid(i) * torch.tanh(g)
    return {"h": torch.sigmoid(o) * torch.tanh(c), "c": c}


def step_gru(p, x, s):
    (x_r, x_z, x_n), (h_r, h_z, h_n) = halves(p, x, s["h"], 3)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return {"h": (1 - z) * n + z * s["h"]}


def step_rnn_tanh(p, x, s):
    (of_input,), (of_state,) = halves(p, x, s["h"], 1)
    return {"h": torch.tanh(of_input + of_state)}


def step_rnn_relu(p, x, s):
    (of_input,), (of_state,) = halves(p, x, s["h"], 1)
    return {"h": torch.relu(of_input + of_state)}


def step_peephole_lstm(p, x, s):
    i, f, g, o = (a + b for a, b in zip(*halves(p, x, s["h"], 4), strict=True))
    i = torch.sigmoid(i + p["vector.p_i"] * s["c"])
    f = torch.sigmoid(f + p["vector.p_f"] * s["c"])
    c = f * s["c"] + i * torch.tanh(g)
    o = torch.sigmoid(o + p["vector.p_o"] * c)
    return {"h": o * torch.tanh(c), "c": c}


def step_reset_before_gru(p, x, s):
    (x_r, x_z, x_n), (h_r, h_z, _) = halves(p, x, s["h"], 3)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    H = s["h"].shape[1]
    n = torch.tanh(x_n + (r * s["h"]) @ p["w_hh"][2 * H :].T + p["b_hh"][2 * H :])
    return {"h": (1 - z) * n + z * s["h"]}


def step_layer_norm_lstm(p, x, s):
    def joined(name):
        return torch.cat([p[f"vector.{name}_{gate}"] for gate in "ifgo"])

    H = s["h"].shape[1]
    a = layer_norm(x @ p["w_ih"].T + p["b_ih"], (4 * H,), joined("gamma_x"), joined("bias"))
    a = a + layer_norm(s["h"] @ p["w_hh"].T + p["b_hh"], (4 * H,), joined("gamma_r"))
    i, f, g, o = a.chunk(4, -1)
    c = torch.sigmoid(f) * s["c"] + torch.sigmoid(i) * torch.tanh(g)
    return {"h": torch.sigmoid(o) * torch.tanh(layer_norm(c, (H,), p["vector.gamma"], p["vector.beta"])), "c": c}


STEPS = {name.removeprefix("step_"): step for name, step in globals().items() if name.startswith("step_")}
CELLS = (*SHIPPED, *PROOF)


@pytest.mark.parametrize("written", CELLS, ids=lambda one: one.program.name)
def test_values_and_gradients_are_those_of_torch(written):
    program, rng = written.program, np.random.default_rng(1)
    arrays = layer_arrays(program, T=5, B=3, I=4, H=6)
    record = run_layer(program, arrays)
    dy = rng.standard_normal(record.y.shape)
    d_final = {name: rng.standard_normal((3, 6)) for name in record.final}
    found = named_gradients(loop.backward(record, dy, d_final))

    tensors = {name: torch.tensor(one, requires_grad=True) for name, one in arrays.items()}
    state = {one.name: tensors[f"initial.{one.name}"] for one in program.states}
    loss = 0.0
    for t in range(5):
        state = STEPS[program.name](tensors, tensors["x"][t], state)
        np.testing.assert_allclose(record.y[t], state["h"].detach().numpy(), rtol=0, atol=1e-14)
        loss = loss + (state["h"] * torch.from_numpy(dy[t])).sum()
    loss = loss + sum((state[name] * torch.from_numpy(one)).sum() for name, one in d_final.items())
    loss.backward()
    for name, tensor in tensors.items():
        expected = tensor.grad.numpy()
        np.testing.assert_allclose(
            found[name], expected, rtol=0, atol=1e-12 * (1 + np.abs(expected).max()), err_msg=name
        )
