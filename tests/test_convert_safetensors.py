"""Layers as safetensors files. Needs the extra `safetensors`."""

import json

import fastrnn
import numpy as np
import pytest
from convert_cases import assert_same_layer, layers
from core_call import same_bits
from fastrnn import convert
from hypothesis import given

pytest.importorskip("safetensors")
import fastrnn.safetensors
import safetensors
import safetensors.numpy


@given(layer=layers(counts=(1, 2, 3), dropout=0.5))
def test_a_saved_layer_comes_back_with_its_bits(layer, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "layer.safetensors"
    fastrnn.safetensors.save(layer, path)
    loaded = fastrnn.safetensors.load(path)
    assert type(loaded) is type(layer)
    assert_same_layer(loaded, layer)
    x = np.ones((3, 2, layer.input_size), layer.dtype)
    assert same_bits(loaded.forward(x)[0], layer.forward(x)[0])


def test_the_ending_is_added_where_it_is_missing(tmp_path):
    layer = fastrnn.GRU(3, 4, seed=0)
    fastrnn.safetensors.save(layer, tmp_path / "layer")
    assert [path.name for path in tmp_path.iterdir()] == ["layer.safetensors"]
    assert_same_layer(fastrnn.safetensors.load(tmp_path / "layer"), layer)


def test_any_program_reads_the_tensors_under_the_names_of_torch(tmp_path):
    layer = fastrnn.LSTM(3, 4, num_layers=2, bidirectional=True, seed=0)
    layer.parameters["weight_hh_l0"] = np.asfortranarray(layer.parameters["weight_hh_l0"])
    fastrnn.safetensors.save(layer, tmp_path / "layer.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "layer.safetensors")
    assert tensors.keys() == layer.parameters.keys()
    assert all(np.array_equal(tensors[name], array) for name, array in layer.parameters.items())
    assert_same_layer(convert.from_torch(tensors), layer)
    with safetensors.safe_open(tmp_path / "layer.safetensors", "np") as file:
        assert json.loads(file.metadata()["fastrnn"])["hidden_size"] == 4


def test_files_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"weight": np.ones(3)}, path)
    with pytest.raises(ValueError, match=r"expected a file written by save, got .* \(no configuration in it\)"):
        fastrnn.safetensors.load(path)
    safetensors.numpy.save_file({"weight": np.ones(3)}, path, {"fastrnn": '{"format": "fastrnn-1", "layer": "Conv"}'})
    with pytest.raises(ValueError, match="path: expected a file of LSTM, GRU, RNN, got one of Conv"):
        fastrnn.safetensors.load(path)
    safetensors.numpy.save_file({"weight": np.ones(3)}, path, {"fastrnn": '{"format": "fastrnn-2"}'})
    with pytest.raises(ValueError, match="path: expected format 'fastrnn-1', got 'fastrnn-2'"):
        fastrnn.safetensors.load(path)
    with pytest.raises(FileNotFoundError):
        fastrnn.safetensors.load(tmp_path / "absent")


def test_a_damaged_file_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "layer.safetensors"
    fastrnn.safetensors.save(fastrnn.LSTM(3, 4, seed=0), path)
    content = path.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="expected a file written by save"):
            fastrnn.safetensors.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "layer.safetensors"
    layer = fastrnn.LSTM(3, 4, seed=0)
    fastrnn.safetensors.save(layer, path)
    before = path.read_bytes()
    layer.parameters["weight_hh_l0"] = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="weight_hh_l0: expected shape"):
        fastrnn.safetensors.save(layer, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["layer.safetensors"]


def test_only_layers_are_saved(tmp_path):
    with pytest.raises(TypeError, match=r"layer: expected a fastrnn.LSTM, GRU or RNN, got dict"):
        fastrnn.safetensors.save({"weight": np.ones(3)}, tmp_path / "layer")
