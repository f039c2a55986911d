"""Square: its schedule, windows and steps against the published ones."""

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_adaad.attacks import Square
from keras_adaad.attacks.randomness import HostRNG
from keras_adaad.attacks.square import pattern
from keras_adaad.attacks.square import window_share
from tests.oracles import attacks as oracles

NORMS = oracles.NORMS
# Height, width and channels that cannot be taken for each other.
SHAPE = (9, 7, 3)


def all_settings(attack, shape, seed=0):
    rounds = attack._rounds(10)
    return [s for r in range(rounds) for s in attack.settings(shape, seed, r)]


def tensors(arrays):
    return keras.tree.map_structure(ops.convert_to_tensor, arrays)


def extent(window):
    """Returns the first row and column of a window, its height and width."""
    rows = np.flatnonzero(window[..., 0].any(1))
    columns = np.flatnonzero(window[..., 0].any(0))
    assert window[rows[0] :, columns[0] :][: len(rows), : len(columns)].all()
    return rows[0], columns[0], len(rows), len(columns)


# The schedule and the windows.


@pytest.mark.once
def test_schedule_is_the_published_one():
    published = oracles.square(None, "linf", 0.1, 5000)
    for query in range(10000):
        assert 0.8 * window_share(query) == published.p_selection(query)
    assert 0.8 * window_share(4999) == 0.8 / 128


@pytest.mark.once
@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 7, 3)])
@pytest.mark.parametrize("norm", NORMS)
def test_windows_of_5000_queries(norm, shape):
    attack = Square(epsilon=0.1, norm=norm)
    published = oracles.square(None, norm, 0.1, 5000)
    settings = all_settings(attack, shape)
    assert len(settings) == 5000
    height, width = shape[:2]
    places = []
    for query, setting in enumerate(settings):
        # Two lines of the published code, for each norm.
        area = published.p_selection(query) * height * width
        if norm == "linf":
            side = max(int(round(np.sqrt(area))), 1)
        else:
            side = max(int(round(np.sqrt(area))), 3)
            side += side % 2 == 0
        side = min(side, height, width)
        windows = [setting["window"]]
        if norm == "l2":
            windows.append(setting["source"])
            assert setting["query"] == query % 100
        for window in windows:
            assert window.shape == (height, width, 1)
            row, column, *sides = extent(window)
            assert sides == [side, side]
            # `random_int` never draws the last place.
            assert row <= max(height - side - 1, 0)
            assert column <= max(width - side - 1, 0)
            places.append((side, row, column))
    # Everywhere else, as often.
    side = places[-1][0]
    last = [place for place in places if place[0] == side]
    rows = np.bincount([row for _, row, _ in last])
    columns = np.bincount([column for _, _, column in last])
    assert len(rows) == height - side and len(columns) == width - side
    for counts in (rows, columns):
        deviations = (counts - counts.mean()) / np.sqrt(counts.mean())
        assert np.abs(deviations).max() < 4.5


@pytest.mark.once
def test_windows_depend_on_the_seed_and_the_query():
    attack = Square(epsilon=0.1, queries=200)
    windows = [
        np.stack([s["window"] for s in all_settings(attack, (28, 28, 1), seed)])
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(windows[0], windows[1])
    assert (windows[0] != windows[2]).any((1, 2, 3)).mean() > 0.9
    # The second round does not repeat the first.
    assert (windows[0][51:100] != windows[0][151:]).any((1, 2, 3)).mean() > 0.9


@pytest.mark.once
def test_signs_of_the_windows():
    settings = all_settings(Square(epsilon=0.1, queries=300), SHAPE)
    signs = np.stack([s["signs"] for s in settings])
    assert signs.shape == (300, 1, 1, 3)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    # All eight combinations of three channels, and none preferred.
    codes = ((signs[:, 0, 0] > 0) @ [1, 2, 4]).astype(int)
    assert (np.bincount(codes, minlength=8) > 300 / 8 / 2).all()


@pytest.mark.once
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7, 8, 15, 25])
def test_pattern_is_the_published_one(side):
    published = oracles.square(None, "l2", 0.1, 1).eta(side).numpy()
    generator = np.random.default_rng(0)
    drawn = [pattern(side, generator) for _ in range(20)]
    for tile in drawn:
        assert tile.dtype == np.float32
        same = np.allclose(tile, published, atol=1e-6)
        assert same or np.allclose(tile.T, published, atol=1e-6)
        assert np.linalg.norm(tile) == pytest.approx(1.0, abs=1e-6)
    if side > 1:
        upright = [np.allclose(tile, drawn[0]) for tile in drawn]
        assert 3 < sum(upright) < 17


# The start.


@pytest.mark.once
def test_linf_start_is_stripes():
    generator = np.random.default_rng(0)
    x = generator.uniform(size=(20, *SHAPE)).astype("float32")
    attack = Square(epsilon=0.1, queries=250)
    noise = attack._start(x, x, HostRNG([0, 0], range(20)), 0)
    assert noise.shape == x.shape
    np.testing.assert_allclose(np.abs(noise), 0.1, rtol=1e-6)
    # The same all the way down; by image, column and channel, either.
    np.testing.assert_array_equal(noise, noise[:, :1].repeat(9, axis=1))
    signs = np.sign(noise[:, 0])
    assert abs(signs.mean()) < 0.2
    for other in (signs[::-1], signs[:, ::-1], signs[:, :, ::-1]):
        assert 0.2 < (signs != other).mean() < 0.8
    # The next round goes on from the best point.
    best = np.clip(x + 0.05, 0, 1)
    noise = attack._start(x, best, HostRNG([0, 1], range(20)), 1)
    np.testing.assert_array_equal(noise, best - x)


@pytest.mark.once
@pytest.mark.parametrize("shape", [(28, 28, 1), (10, 10, 3), (8, 8, 1)])
def test_l2_start_is_a_grid_of_tiles(shape):
    height, width, channels = shape
    x = np.full((6, *shape), 0.5, "float32")
    attack = Square(epsilon=0.3, norm="l2", queries=100)
    noise = attack._start(x, x, HostRNG([0, 0], range(6)), 0)
    start, signs = noise["start"], noise["signs"]
    assert signs.shape == (6, 100, channels)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    np.testing.assert_allclose(oracles.size(start, "l2"), 0.3, rtol=1e-5)
    # The published code, tile by tile, up to sign and transposition.
    published = oracles.square(None, "l2", 0.3, 1)
    side = height // 5
    begin = (height - 5 * side) // 2
    tile = published.eta(side).numpy()
    scale, covered, turned = None, np.zeros(shape[:2], bool), set()
    for row in range(begin, begin + height // side * side, side):
        for column in range(begin, begin + width // side * side, side):
            place = start[:, row : row + side, column : column + side]
            covered[row : row + side, column : column + side] = True
            if place.shape[1:3] != (side, side):
                continue
            if scale is None:
                scale = np.linalg.norm(place[0, ..., 0])
            for image in np.moveaxis(place, -1, 1).reshape(-1, side, side):
                options = [sign * t for sign in (1, -1) for t in (tile, tile.T)]
                near = [
                    np.allclose(image, scale * t, atol=1e-6) for t in options
                ]
                assert any(near)
                turned.add(near.index(True))
    assert turned >= {0, 2} or turned >= {1, 3}
    np.testing.assert_array_equal(start[:, ~covered], 0.0)


# One step, against a transcription of the published one.


def published_linf_step(x, x_best, setting, epsilon):
    x, x_best = oracles.to_torch(x), oracles.to_torch(x_best)
    row, column, s, _ = extent(setting["window"])
    c, h, w = x.shape[1:]
    new_deltas = torch.zeros([c, h, w])
    signs = torch.tensor(setting["signs"].reshape(c, 1, 1))
    new_deltas[:, row : row + s, column : column + s] = 2.0 * epsilon * signs
    x_new = x_best + new_deltas
    x_new = torch.min(torch.max(x_new, x - epsilon), x + epsilon)
    return oracles.to_keras(torch.clamp(x_new, 0.0, 1.0))


def published_l2_step(x, x_best, setting, signs, epsilon):
    x, x_best = oracles.to_torch(x), oracles.to_torch(x_best)
    vh, vw, s, _ = extent(setting["window"])
    vh2, vw2, _, _ = extent(setting["source"])
    eta = torch.tensor(setting["tile"][vh : vh + s, vw : vw + s, 0])
    signs = torch.tensor(signs)[:, :, None, None]
    c = x.shape[1]

    delta_curr = x_best - x
    new_deltas_mask = torch.zeros_like(x)
    new_deltas_mask[:, :, vh : vh + s, vw : vw + s] = 1.0
    norms_window_1 = (
        (delta_curr[:, :, vh : vh + s, vw : vw + s] ** 2)
        .sum(dim=(-2, -1), keepdim=True)
        .sqrt()
    )
    new_deltas_mask_2 = torch.zeros_like(x)
    new_deltas_mask_2[:, :, vh2 : vh2 + s, vw2 : vw2 + s] = 1.0
    norms_image = ((x_best - x) ** 2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
    mask_image = torch.max(new_deltas_mask, new_deltas_mask_2)
    norms_windows = (
        ((delta_curr * mask_image) ** 2).sum(dim=(-2, -1), keepdim=True).sqrt()
    )
    new_deltas = torch.ones([len(x), c, s, s]) * (eta.view(1, 1, s, s) * signs)
    old_deltas = delta_curr[:, :, vh : vh + s, vw : vw + s] / (
        1e-12 + norms_window_1
    )
    new_deltas += old_deltas
    new_deltas = (
        new_deltas
        / (1e-12 + (new_deltas**2).sum(dim=(-2, -1), keepdim=True).sqrt())
        * (
            torch.max(
                (epsilon * torch.ones_like(new_deltas)) ** 2 - norms_image**2,
                torch.zeros_like(new_deltas),
            )
            / c
            + norms_windows**2
        ).sqrt()
    )
    delta_curr[:, :, vh2 : vh2 + s, vw2 : vw2 + s] = 0.0
    delta_curr[:, :, vh : vh + s, vw : vw + s] = new_deltas
    size = (delta_curr**2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
    x_new = torch.clamp(x + delta_curr / (size + 1e-12) * epsilon, 0.0, 1.0)
    return oracles.to_keras(x_new)


@pytest.mark.parametrize("norm", NORMS)
def test_steps_are_the_published_ones(norm):
    """Every step is accepted here, so that each builds on the one before."""
    generator = np.random.default_rng(0)
    x = generator.uniform(size=(4, *SHAPE)).astype("float32")
    epsilon = {"linf": 0.3, "l2": 1.5}[norm]
    attack = Square(epsilon=epsilon, norm=norm, queries=100)
    noise = attack._start(x, x, HostRNG([0, 0], range(4)), 0)
    signs = noise["signs"] if norm == "l2" else None
    objective, seen = oracles.scripted(-1.0 / np.arange(1.0, 102.0))
    settings = list(attack.settings(SHAPE, 0))
    tensor = ops.convert_to_tensor(x)
    state = attack.begin(objective, tensor, tensors(noise), settings[0])
    changed = []
    for query, setting in enumerate(settings[:60]):
        before = np.array(ops.convert_to_numpy(state["x_adv"]))
        state = attack.step(objective, tensor, state, tensors(setting))
        if norm == "linf":
            expected = published_linf_step(x, before, setting, epsilon)
        else:
            expected = published_l2_step(
                x, before, setting, signs[:, query], epsilon
            )
        found = ops.convert_to_numpy(state["x_adv"])
        np.testing.assert_allclose(found, expected, atol=2e-5)
        changed.append((np.abs(expected - before) > 1e-3).any((1, 2, 3)))
    assert np.mean(changed) > 0.6
    # One query in each step, and one for the start.
    assert len(seen) == 61


@pytest.mark.parametrize("norm", NORMS)
def test_margin_never_falls_and_who_is_fooled_stays(norm):
    generator = np.random.default_rng(0)
    x = generator.uniform(size=(6, *SHAPE)).astype("float32")
    attack = Square(epsilon=0.3, norm=norm, queries=30)
    noise = attack._start(x, x, HostRNG([0, 0], range(6)), 0)
    values = generator.normal(-1.0, 0.6, (31, 6)).astype("float32")
    values[0] = -2.0
    values[1:3, 3] = -1.9  # the second is no better: the first is kept
    values[12, 0] = 0.0  # on the boundary: counts as fooled
    objective, seen = oracles.scripted(values)
    settings = list(attack.settings(SHAPE, 0))
    tensor = ops.convert_to_tensor(x)
    states = [attack.begin(objective, tensor, tensors(noise), settings[0])]
    for setting in settings:
        state = attack.step(objective, tensor, states[-1], tensors(setting))
        states.append(state)
    points = [ops.convert_to_numpy(s["x_adv"]) for s in states]
    kept = np.array([ops.convert_to_numpy(s["value"]) for s in states])
    best = values[0].copy()
    np.testing.assert_array_equal(kept[0], best)
    for step in range(1, 31):
        better = (best < 0.0) & ((values[step] > best) | (values[step] >= 0.0))
        best = np.where(better, values[step], best)
        np.testing.assert_array_equal(kept[step], best)
        expected = np.where(
            better[:, None, None, None], seen[step], points[step - 1]
        )
        np.testing.assert_array_equal(points[step], expected)
    assert (np.diff(kept, axis=0) >= 0.0).all()
    assert kept[-1, 0] >= 0.0 and len(seen) == 31


def test_a_tie_that_is_still_right_is_searched_on():
    """Margins of 0 are rare in float32, and common among int8 logits."""
    x = np.full((2, *SHAPE), 0.5, "float32")
    attack = Square(epsilon=0.1, queries=3)
    # The first image is still right at its tie, the second is not.
    values = iter([[-1, -1], [0, 0], [0.2, 0.2], [0.3, 0.3]])
    verdicts = iter([[0, 0], [0, 1], [1, 1], [1, 1]])
    tensor, points = ops.convert_to_tensor(x), []

    def objective(x_new):
        points.append(ops.convert_to_numpy(x_new))
        return (
            ops.convert_to_tensor(next(values), "float32"),
            ops.convert_to_tensor(next(verdicts), "bool"),
        )

    noise = attack._start(x, x, HostRNG([0, 0], range(2)), 0)
    settings = list(attack.settings(SHAPE, 0))
    state = attack.begin(objective, tensor, tensors(noise), settings[0])
    for setting in settings:
        state = attack.step(objective, tensor, state, tensors(setting))
    np.testing.assert_allclose(
        ops.convert_to_numpy(state["value"]), [0.2, 0.0], rtol=1e-6
    )
    found = ops.convert_to_numpy(state["x_adv"])
    np.testing.assert_array_equal(found[0], points[2][0])
    np.testing.assert_array_equal(found[1], points[1][1])


# The whole search.


def attacked(norm, queries=120, **arguments):
    x, y = oracles.smooth_batch()
    attack = Square(
        epsilon=oracles.EPSILON[norm],
        norm=norm,
        queries=queries,
        seed=0,
        **arguments,
    )
    return attack, x, y


@pytest.mark.parametrize("norm", NORMS)
def test_every_query_counts_once(norm):
    model = oracles.smooth_pair()[0]
    # Nothing fools a constant, so nothing stops the search.
    attack = Square(epsilon=0.1, norm=norm, queries=130, restarts=2)
    x, _ = oracles.smooth_batch()
    y = np.zeros(len(x), "int32")
    outcome, moved = oracles.steps_taken(attack, oracles.constant_model(), x, y)
    assert moved == 2 * 130 * [len(x)]
    assert not outcome.fooled.any()
    # Images that are fooled leave at the end of a round of 100.
    attack, x, y = attacked(norm)
    outcome, moved = oracles.steps_taken(attack, model, x, y)
    assert moved[:100] == 100 * [len(x)]
    assert len(set(moved[100:])) == 1 and len(moved) == 120
    assert len(x) > moved[-1] >= (~outcome.fooled).sum() > 0


@pytest.mark.parametrize("norm", NORMS)
def test_longer_searches_get_further(norm):
    model, module = oracles.smooth_pair()
    margins = []
    for queries in (1, 20, 120):
        attack, x, y = attacked(norm, queries)
        margins.append(oracles.margin(module, attack(model, x, y), y))
    robust = margins[-1] < 0.0
    assert 0 < robust.sum() < len(x)
    # The windows are the same, so a longer search goes through a shorter one.
    assert (np.diff(np.array(margins)[:, robust], axis=0) >= -1e-5).all()
    assert (margins[-1] > margins[0]).mean() > 0.8
    assert (margins[-1] >= 0.0).sum() > (margins[0] >= 0.0).sum()


def test_linf_perturbation_is_epsilon_or_clipped():
    attack, x, y = attacked("linf")
    x_adv = attack(oracles.smooth_pair()[0], x, y)
    full = np.abs(np.abs(x_adv - x) - attack.epsilon) < 1e-6
    assert (full | (x_adv == 0.0) | (x_adv == 1.0)).all()
    assert full.mean() > 0.5


def test_l2_perturbation_uses_the_whole_radius():
    attack, x, y = attacked("l2")
    x = 0.3 + 0.4 * x  # so that nothing is clipped
    y = oracles.logits(oracles.smooth_pair()[1], x).argmax(-1)
    x_adv = attack(oracles.smooth_pair()[0], x, y.astype("int32"))
    size = oracles.size(x_adv - x, "l2")
    np.testing.assert_allclose(size, attack.epsilon, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_batch_size_does_not_change_the_result(norm):
    attack, x, y = attacked(norm)
    model = oracles.smooth_pair()[0]
    whole = attack(model, x, y)
    parts = attack(model, x, y, batch_size=5)
    assert oracles.share_close(parts, whole) > 0.9
    first = attack(model, x[:5], y[:5])
    assert oracles.share_close(first, whole[:5]) > 0.7


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("norm", NORMS)
def test_channels_first(norm, data_format):
    """The same images with the channels first give the same attack."""

    def build(shape):
        inputs = keras.Input(shape)
        # In either layout, the channels are flattened last.
        order = "channels_first" if shape[0] == 3 else "channels_last"
        h = keras.layers.Flatten(data_format=order)(inputs)
        return keras.Model(inputs, keras.layers.Dense(4)(h))

    generator = np.random.default_rng(0)
    x = generator.uniform(size=(6, *SHAPE)).astype("float32")
    last = build(SHAPE)
    y = np.argmax(last.predict(x, verbose=0), -1)
    attack = Square(epsilon=0.05, norm=norm, queries=30, seed=0)
    expected = attack(last, x, y)
    keras.config.set_image_data_format(data_format)
    try:
        first = build((3, 9, 7))
        first.set_weights(last.get_weights())
        found = attack(first, np.moveaxis(x, -1, 1).copy(), y)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert found.shape == (6, 3, 9, 7)
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, atol=1e-5)
    assert np.abs(expected - x).max() > 0.01


def test_a_restart_is_a_search_of_its_own():
    """Its later rounds go on from its own points, not from an earlier one's."""
    x, _ = oracles.smooth_batch()
    y = np.zeros(len(x), "int32")
    attack = Square(epsilon=0.1, queries=200, restarts=2, seed=0)
    host_noise, starts = attack._start, []

    def spy(*arguments):
        starts.append(host_noise(*arguments))
        return starts[-1]

    attack._start = spy
    # A constant accepts no window: a search ends where it starts.
    attack(oracles.constant_model(), x, y)
    first, on, second, on_2 = (np.clip(x + start, 0, 1) for start in starts)
    np.testing.assert_allclose(on, first, atol=1e-6)
    assert np.abs(second - first).max() > 0.1
    np.testing.assert_allclose(on_2, second, atol=1e-6)


def test_noise_is_the_start_of_each_restart():
    x, _ = oracles.smooth_batch()
    y = np.zeros(len(x), "int32")
    noise = oracles.noise(x, "linf", 0.1, 0)
    attack = Square(epsilon=0.1, queries=3, seed=0)
    # A constant accepts no window: the search ends where it starts.
    x_adv = attack(oracles.constant_model(), x, y, noise=noise)
    expected = np.clip(x + noise, 0.0, 1.0)
    np.testing.assert_allclose(x_adv, expected, atol=1e-6)


def test_what_it_refuses():
    attack = Square(epsilon=0.1)
    x, y = oracles.smooth_batch()
    model = oracles.smooth_pair()[0]
    with pytest.raises(ValueError, match="noise"):
        attack(model, x, y, noise=0.0 * x[:, :1])
    inputs = keras.Input((64,))
    flat = keras.Model(inputs, keras.layers.Dense(10)(inputs))
    with pytest.raises(ValueError, match="height, width and channels"):
        attack(flat, x.reshape(-1, 64), y)
