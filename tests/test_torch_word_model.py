"""The word model of the examples learns like the same model in PyTorch, from equal weights.

At a rate of 1.0 the first updates are chaotic: if weights differ in the eighth digit, losses differ in the fourth digit
after 30 updates, and float32 rounds by that much in each update. So whole runs are compared in float64, and float32 is
compared update by update.
"""

import fastrnn
import numpy as np
import pytest
from word_model import CONFIGS, WordModel
from word_text import read_words

torch = pytest.importorskip("torch")
from torch.nn import functional

CONFIG, VOCABULARY_SIZE = CONFIGS["small"], 1000


class TorchModel(torch.nn.Module):
    """Autograd, cross entropy and clipping are torch's; no part of the model is written for fastrnn."""

    def __init__(self, model):
        super().__init__()
        vocabulary_size, H = model.parameters["w_out"].shape
        self.to_own = {"embedding.weight": "embedding", "output.weight": "w_out", "output.bias": "b_out"}
        self.to_own |= {f"lstm.{name}": name for name in model.layers.parameters}
        self.embedding = torch.nn.Embedding(vocabulary_size, H)
        self.lstm = torch.nn.LSTM(H, H, model.config.num_layers)
        self.output = torch.nn.Linear(H, vocabulary_size)
        self.to(torch.from_numpy(model.parameters["w_out"]).dtype)
        self.learn_from(model)
        for name, parameter in self.lstm.named_parameters():
            parameter.requires_grad_(not name.startswith("bias_hh"))  # TensorFlow's cell has one bias
        self.learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.descent = torch.optim.SGD(self.learned, lr=model.config.learning_rate)

    def learn_from(self, model):
        self.load_state_dict({name: torch.tensor(model.parameters[own]) for name, own in self.to_own.items()})

    def forward(self, ids, state):
        y, state = self.lstm(self.embedding(ids), state)
        return self.output(y), state

    def update(self, ids, targets, state):
        """The loss, a mean over the batch summed over steps; and the state."""
        logits, state = self(torch.tensor(ids), state)
        loss = functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten(), reduction="sum")
        loss = loss / CONFIG.batch_size
        self.descent.zero_grad()
        loss.backward()
        # torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm, which is too inexact here.
        norm = torch.stack([parameter.grad.norm() for parameter in self.learned]).norm()
        for parameter in self.learned:
            parameter.grad *= (CONFIG.clip / norm).clamp(max=1.0)
        self.descent.step()
        return loss.item(), tuple(member.detach() for member in state)


@pytest.fixture(scope="module")
def windows():
    corpus = read_words(None, VOCABULARY_SIZE)
    return fastrnn.Windows(corpus.train, CONFIG.batch_size, CONFIG.num_steps)


@pytest.fixture(autouse=True)
def _one_thread_of_torch():
    """On a busy machine, barriers of torch's threads take longer than all other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_losses_of_fifty_updates_equal_those_of_the_same_model_in_torch(windows):
    model = WordModel(CONFIG, VOCABULARY_SIZE, np.float64)
    module = TorchModel(model)
    state = their_state = None
    losses, expected = [], []
    for number in range(50):
        ids, targets = windows[number]
        loss, state = model.update(ids, targets, state, CONFIG.learning_rate)
        losses.append(loss)
        loss, their_state = module.update(ids, targets, their_state)
        expected.append(loss)
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_every_update_in_float32_equals_that_of_torch_from_the_same_weights(windows):
    model = WordModel(CONFIG, VOCABULARY_SIZE)
    module = TorchModel(model)
    state = their_state = None
    for number in range(10):
        module.learn_from(model)
        ids, targets = windows[number]
        before = {name: array.copy() for name, array in model.parameters.items()}
        loss, state = model.update(ids, targets, state, CONFIG.learning_rate)
        expected, _ = module.update(ids, targets, their_state)
        assert loss == pytest.approx(expected, rel=1e-4)
        theirs = module.state_dict()
        moved = {own: theirs[name].numpy() - before[own] for name, own in module.to_own.items()}
        length = np.sqrt(sum((d.astype(float) ** 2).sum() for d in moved.values()))
        for name, d in moved.items():
            difference = model.parameters[name] - before[name] - d
            assert np.linalg.norm(difference.astype(float)) < 1e-4 * length, name
        their_state = tuple(torch.tensor(member) for member in state)
