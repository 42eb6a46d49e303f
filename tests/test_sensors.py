"""The models of measured series: gradients, padding, baselines; and the whole example on sktime's data."""

import numpy as np
import pytest
import sensors
from sensor_baselines import LAGS, last_value, linear_regression
from sensor_data import padded, scaling_of
from sensor_models import Classifier, Forecaster, targets_of


def assert_derivative(model, loss_and_gradients):
    rng = np.random.default_rng(1)
    gradients = {name: gradient.copy() for name, gradient in loss_and_gradients()[1].items()}
    assert gradients.keys() == model.parameters.keys()
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        losses = []
        for sign in (1, -1):
            model.parameters[name] += sign * 1e-6 * direction
            losses.append(loss_and_gradients()[0])
            model.parameters[name] -= sign * 1e-6 * direction
        assert (gradient * direction).sum() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6, abs=1e-9), name


def test_gradients_of_the_forecaster_are_the_derivative_of_its_loss():
    x = np.random.default_rng(0).standard_normal((9, 3, 2))
    model = Forecaster(2, 5, 3, dtype=np.float64)
    assert_derivative(model, lambda: model.gradients(x))


def test_gradients_of_the_classifier_are_the_derivative_of_its_loss():
    x = np.random.default_rng(0).standard_normal((9, 3, 2))
    model = Classifier(2, 5, 4, dtype=np.float64)
    assert_derivative(model, lambda: model.gradients(x, np.array([9, 1, 4]), np.array([2, 0, 3])))


def test_targets_are_the_values_of_the_steps_ahead():
    x = np.random.default_rng(0).standard_normal((8, 2, 3))
    targets = targets_of(x, 2)
    assert targets.shape == (6, 2, 2, 3)
    np.testing.assert_array_equal(targets[4, 1], x[5:7, 1])


def test_loss_of_the_forecaster_is_the_mean_square_of_its_forecasts():
    x = np.random.default_rng(0).standard_normal((8, 2, 3))
    model = Forecaster(3, 4, 2, dtype=np.float64)
    assert model.gradients(x)[0] == pytest.approx(((model(x)[:-2] - targets_of(x, 2)) ** 2).mean())


def test_class_of_a_sequence_does_not_depend_on_its_padding_or_neighbours():
    rng = np.random.default_rng(0)
    sequences = [rng.standard_normal((n, 2)).astype(np.float32) for n in (3, 7, 1, 5)]
    x, lengths = padded(sequences)
    assert x.shape == (7, 4, 2)
    model = Classifier(2, 8, 5)
    together = model(x, lengths)
    x[np.arange(7)[:, None] >= lengths] = np.nan
    np.testing.assert_array_equal(model(x, lengths), together)
    for sequence, found in zip(sequences, together, strict=True):
        assert model(sequence[:, None], None) == [found]


def test_scaling_ignores_padding():
    x, lengths = padded([np.array([[1.0], [3.0]]), np.array([[5.0]])])
    mean, deviation = scaling_of(x, lengths)
    assert (mean, deviation) == (3, np.std([1, 3, 5]))


def test_last_value_forecasts_that_nothing_changes():
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    np.testing.assert_array_equal(last_value(x, 2)[:, :, 1], x)


def test_linear_regression_finds_what_follows_linearly_from_some_steps():
    # A sine with a period of 8 steps is a linear function of its last two values.
    t = np.arange(400)[:, None] + np.arange(3)
    x = np.sin(2 * np.pi * t / 8)[..., None]
    forecasts = linear_regression(x, x, 2)
    assert np.abs(forecasts[LAGS:-2] - targets_of(x, 2)[LAGS:]).max() < 0.1


def test_training_ends_with_the_parameters_of_the_least_validation_error():
    options = sensors.parser().parse_args(["--epochs", "5"])
    model = Forecaster(1, 4, 2)
    x = np.random.default_rng(0).standard_normal((20, 8, 1)).astype(np.float32)
    errors, seen = iter([3.0, 1.0, 2.0, 4.0, 5.0]), []

    def validation_error():
        seen.append(model.parameters["w_out"].copy())
        return next(errors)

    sensors.fit(model, options, 8, lambda chosen: model.gradients(x[:, chosen]), validation_error)
    np.testing.assert_array_equal(model.parameters["w_out"], seen[1])
    assert not np.array_equal(seen[1], seen[4])


def test_example_beats_the_last_value_and_draws_its_picture(tmp_path, capsys):
    pytest.importorskip("sktime")
    options = sensors.parser().parse_args(["--epochs", "20", "--figure", str(tmp_path / "s.svg")])
    errors = sensors.forecast_motions(options)
    assert (errors["GRU"] < errors["last value"]).all()
    assert b"<svg" in (tmp_path / "s.svg").read_bytes()
    assert sensors.classify_motions(options)["GRU, after 10 s"] > 0.5
    assert sensors.classify_vowels(options)["GRU"] > 0.8
    printed = capsys.readouterr().out
    for shape in ("(100, 40, 6)", "(26, 270, 12)"):
        assert shape in printed
