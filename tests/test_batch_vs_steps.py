"""The experiment on batch size and time steps: a small grid, measurements made only once, and expected findings."""

import json

import batch_vs_steps
import numpy as np
import pytest
from character_model import CharacterModel
from grid_echo import flips, measure_error
from grid_gradients import gradient_errors
from grid_records import Records, Task
from grid_settings import FULL, QUICK
from grid_speed import loop_layer, measure_memory
from grid_tasks import tasks_of
from grid_text import TextExperiments

TEXT = "time steps are how far back the gradient reaches; a batch is how many share a weight. " * 80


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def run(results, text, *options):
    # A test below draws the figures, which need matplotlib.
    return batch_vs_steps.main(["--quick", "--no-plot", "--results", str(results), "--text", text, *options])


def test_measurements_are_made_once_and_in_pieces(text, tmp_path, capsys):
    results = tmp_path / "results.json"
    wanted = len(list(tasks_of(QUICK, TextExperiments(TEXT, QUICK))))
    assert run(results, text, "--budget", "0.2") == 0
    some = json.loads(results.read_text())["records"]
    assert 0 < len(some) < wanted
    assert "run again to go on" in capsys.readouterr().out
    assert run(results, text) == 0
    whole = json.loads(results.read_text())["records"]
    assert len(whole) == wanted
    assert whole[: len(some)] == some
    capsys.readouterr()
    assert run(results, text) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(results.read_text())["records"] == whole


def test_results_of_another_text_are_refused(text, tmp_path, capsys):
    results = tmp_path / "results.json"
    run(results, text, "--budget", "0")
    other = tmp_path / "other.txt"
    other.write_text(TEXT[1:])
    with pytest.raises(SystemExit):
        run(results, str(other))
    assert "expected text_hash" in capsys.readouterr().err


def test_a_folder_for_figures_that_does_not_exist_is_refused_before_any_work(tmp_path, capsys):
    with pytest.raises(SystemExit):
        batch_vs_steps.main(
            ["--quick", "--results", str(tmp_path / "results.json"), "--figures", str(tmp_path / "none")]
        )
    assert "--figures: expected a folder that exists" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_too_short_a_text_is_refused():
    with pytest.raises(ValueError, match="--text: expected more than"):
        TextExperiments("short", QUICK)


def test_points_of_the_grid_are_told_apart():
    tasks = [(task.experiment, *task.point.items()) for task in tasks_of(FULL, TextExperiments("ab" * 100_000, FULL))]
    assert len(set(tasks)) == len(tasks)


def test_least_time_of_all_rounds_counts(tmp_path):
    records = Records(tmp_path / "results.json", {})
    for number, seconds in enumerate([3.0, 1.0, 2.0]):
        for B in (4, 1):
            records.add(Task("layer", {"B": B, "round": number}, dict), {"seconds": B * seconds})
    assert records.least("layer", "seconds", "B") == {1: 1.0, 4: 4.0}


def test_every_batch_and_window_sees_the_same_characters():
    experiments = TextExperiments(TEXT, QUICK)
    for B in QUICK.batch_sizes:
        for T in QUICK.window_lengths:
            windows = experiments.windows(B, T)
            seen = np.concatenate([ids for ids, _, _ in windows]).T.ravel()
            following = np.concatenate([targets for _, targets, _ in windows]).T.ravel()
            np.testing.assert_array_equal(seen, experiments.train_ids[: QUICK.characters])
            np.testing.assert_array_equal(following, experiments.train_ids[1 : QUICK.characters + 1])


def test_numpy_loop_computes_what_the_layer_does():
    layer, run_loop = loop_layer(16, 3, 5)
    x, y = run_loop()
    np.testing.assert_allclose(y, layer(x)[0], atol=1e-6)


def test_each_step_of_a_window_takes_memory_for_its_input_output_gates_and_their_gradients():
    B, H = 64, 128
    used = [measure_memory(B, T, H, 0)["bytes"] for T in (64, 320)]
    arrays = (used[1] - used[0]) / (256 * B * H * 4)
    assert 7.6 < arrays < 10  # x, y, dx, dy and four gates, minus a few pages; all other kept memory is small


def test_gradients_approach_the_full_one_as_the_window_grows():
    model = CharacterModel("lstm", 9, 4, 8, dtype=np.float64)
    ids, targets = np.random.default_rng(0).integers(0, 9, (2, 40, 3))
    errors = gradient_errors(model, ids, targets, [(1, 1), (5, 5), (20, 20), (5, 20), (40, 40)])
    cosines = [error["cosine"] for error in errors]
    assert cosines[:3] == sorted(cosines[:3])
    assert cosines[0] < 0.99
    assert errors[3]["cosine"] > errors[1]["cosine"]  # k2 beyond k1
    assert errors[-1] == {"k1": 40, "k2": 40, "cosine": 1, "norm_ratio": 1}


def test_echo_repeats_the_flips_of_some_steps_before():
    inputs, targets = flips(20, 3, 4, seed=0)
    np.testing.assert_array_equal(inputs[:-4], targets[4:])


def test_echo_is_learned_as_far_as_the_gradient_reaches_if_the_state_is_carried():
    def error(way, delay):
        return measure_error(QUICK, way, 4, delay)["error"]

    assert error("carried", 3) < 0.01
    assert 0.3 < error("zeroed", 3) < 0.45  # a guess in three of four steps, since the cause lies before the window
    # 6 steps are too many for a window of 4, but not for a window of 4 with a gradient that reaches 8 steps back.
    assert error("full", 6) < 0.01
    assert error("twice", 6) < 0.01
    assert error("carried", 6) > 0.4
    assert error("zeroed", 6) > 0.4


def test_figures_are_pictures(text, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    arguments = ["--quick", "--results", str(tmp_path / "r.json"), "--text", text, "--figures", str(tmp_path)]
    assert batch_vs_steps.main(arguments) == 0
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert len(first) == 5
    assert all(b"<svg" in picture for picture in first.values())
    capsys.readouterr()
    assert batch_vs_steps.main([*arguments, "--plot-only"]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")} == first
