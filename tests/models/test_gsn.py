"""Generative stochastic networks: their layers against plain loops, labels as a layer, and runs on disk."""

import math

import pytest
import torch

import pyro_dgm as dgm
from pyro_dgm.nets.ladder import Ladder, SequenceLadder


def by_loops(gsn, seen, state):
    """The layers of one noiseless step, unit by unit: odd layers from their neighbours, then even ones."""
    sizes = gsn.ladder.sizes
    weights, biases = [w.tolist() for w in gsn.ladder.weights], [b.tolist() for b in gsn.ladder.biases]
    values = [seen.tolist(), *(state[f"hidden_{k + 1}"][0].tolist() for k in range(len(gsn.hidden)))]
    depth = len(gsn.hidden)
    for layer in [*range(1, depth + 1, 2), *range(2, depth + 1, 2)]:
        new = []
        for unit in range(sizes[layer]):
            total = biases[layer][unit]
            total += sum(values[layer - 1][i] * weights[layer - 1][i][unit] for i in range(sizes[layer - 1]))
            if layer < depth:
                total += sum(values[layer + 1][i] * weights[layer][unit][i] for i in range(sizes[layer + 1]))
            elif gsn.classes:
                label = gsn.top.weights[0].tolist()
                total += sum(state["label"][0, c].item() * label[unit][c] for c in range(gsn.classes))
            new.append(math.tanh(total))
        values[layer] = new
    return values[1:]


@pytest.mark.parametrize("hidden", [(3,), (3, 4), (3, 4, 2)])
@pytest.mark.parametrize("classes", [0, 2])
def test_layers_by_loops(hidden, classes):
    torch.manual_seed(0)
    gsn = dgm.GSN(5, hidden=hidden, classes=classes, noise=0.0).double()
    with torch.no_grad():
        for bias in gsn.ladder.biases:
            bias.copy_(torch.randn(len(bias)))
    state = gsn.opening(torch.randint(0, 2, (1, 5)).double())
    state |= {layer: torch.randn_like(x) for layer, x in state.items() if layer.startswith(("hidden", "label"))}
    found = gsn.layers(state["visible"], state, gsn.noise)
    expected = by_loops(gsn, state["visible"][0], state)
    for layer, values in zip(found, expected, strict=True):
        torch.testing.assert_close(layer[0], torch.tensor(values).double())
    _, laws = gsn.rebuild(state | {"visible": state["visible"]})
    assert set(laws) == ({"visible", "label"} if classes else {"visible"})


def test_noise_is_added_before_and_after_the_non_linearity():
    """Without weights a unit is tanh(e) + e': its variance is Var tanh(e) + s^2."""
    torch.manual_seed(0)
    gsn = dgm.GSN(2, hidden=(3, 4), noise=[0.0, 2.0]).double()
    with torch.no_grad():
        for parameter in gsn.parameters():
            parameter.zero_()
    n = 20_000
    first, second = gsn.layers(torch.zeros(n, 2).double(), gsn.opening(torch.zeros(n, 2).double()), gsn.noise)
    assert not first.any()
    grid = torch.linspace(-12, 12, 20_001).double()
    density = torch.exp(-grid.square() / 8) / math.sqrt(8 * math.pi)
    variance = float(torch.trapezoid(density * torch.tanh(grid).square(), grid)) + 4
    found = second.var(0)
    assert float(((found.detach() - variance).abs() / (variance * math.sqrt(2 / n))).max()) < 4.5


def test_one_layer_without_noise_is_a_denoising_autoencoder():
    torch.manual_seed(0)
    gsn = dgm.GSN(4, hidden=(3,), noise=0.0, activation="sigmoid")
    dae = dgm.DenoisingAutoencoder(4, hidden=(3,), tied=True)
    dae.autoencoder.ladder.load_state_dict(gsn.ladder.state_dict())
    x = torch.randint(0, 2, (20, 4)).float()
    losses = []
    for model in (gsn, dae):
        torch.manual_seed(1)
        objective = dgm.Denoising(steps=3)
        objective.attach(model)
        losses.append(objective.loss(x))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(gsn.reconstruct(x), dae.reconstruct(x))


def labelled(rows=600):
    """Rows whose class is which of two bits is on; the others are noise."""
    torch.manual_seed(0)
    chosen = torch.randint(2, (rows,))
    x = torch.randint(0, 2, (rows, 6)).float()
    x[:, 0], x[:, 1] = (chosen == 0).float(), (chosen == 1).float()
    return torch.cat([x, torch.eye(2)[chosen]], 1)


@pytest.mark.parametrize("visible", [0.0, 0.2])
def test_discriminative_and_hybrid_networks_classify(visible):
    """The class is a function of the row: a trained network knows it, and the untrained one does not."""
    x = labelled()
    gsn = dgm.GSN(6, hidden=(20,), classes=2, noise=0.5, level=0.1)
    dgm.fit(gsn, x, objective=gsn.objective(steps=3, visible=visible), epochs=20, learning_rate=0.01, progress=False)
    for noisy in (True, False):
        law = gsn.predict_proba(x, noisy=noisy)
        torch.testing.assert_close(law.sum(1), torch.ones(len(x)))
        assert float((law.argmax(1) == x[:, 6:].argmax(1)).float().mean()) > 0.97
    assert torch.equal(gsn.predict_proba(x[:, :6], noisy=False), gsn.predict_proba(x, noisy=False))


def test_a_hybrid_network_draws_rows_of_a_class():
    """Where rows are trained with their label held, draws of a class have its bit; the labels that it draws are both."""
    x = labelled()
    gsn = dgm.GSN(6, hidden=(20,), classes=2, noise=0.5, level=0.1)
    objective = gsn.objective(given=0.5)
    dgm.fit(gsn, x, objective=objective, epochs=20, batch_size=20, learning_rate=0.01, progress=False)
    for label in (0, 1):
        drawn = gsn.sample(400, steps=50, labels=label)
        assert drawn[:, 6 + label].eq(1).all()
        assert float(drawn[:, label].mean()) > 0.8 > 0.2 > float(drawn[:, 1 - label].mean())
    both = gsn.sample(400, steps=50)
    gsn.check_data(both)
    assert 0.2 < float(both[:, 6].mean()) < 0.8
    assert float((gsn.predict_proba(x).argmax(1) == x[:, 6:].argmax(1)).float().mean()) > 0.97


@pytest.mark.parametrize("classes", [0, 2])
def test_a_run_resumes_bit_for_bit(classes, tmp_path):
    x = labelled(60)[:, : None if classes else 6]

    def trained(epochs, out, resume=False):
        torch.manual_seed(1)
        gsn = dgm.GSN(6, hidden=(5, 4), classes=classes)
        dgm.fit(gsn, x, epochs=epochs, batch_size=20, out=out, resume=resume, progress=False)
        return gsn.state_dict()

    whole = trained(4, tmp_path / "whole")
    trained(2, tmp_path / "parts")
    parts = trained(4, tmp_path / "parts", resume=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_best_epoch_is_the_one_with_the_most_probable_labels():
    """The first figure on validation rows tells which epoch is best, and errors are better the smaller they are."""
    gsn = dgm.GSN(6, hidden=(5,), classes=2)
    names = list(gsn.progress(labelled(20), labelled(20)))
    assert next(name for name in names if name.startswith("valid_")) == "valid_log_label"


def test_a_ladder_of_sequences_is_a_dense_one_with_shared_filters():
    """Upwards against plain loops; downwards is the transpose, <up(x) - b, h> = <x, down(h)>."""
    torch.manual_seed(0)
    ladder = SequenceLadder((2, 3), frames=4, kernel=3).double()
    x, h = torch.randn(5, 8).double(), torch.randn(5, 12).double()
    up = ladder.up(1, x)
    filters = ladder.weights[0]
    for frame in range(4):
        for unit in range(3):
            total = sum(
                (
                    x[:, 2 * (frame + k - 1) + c] * filters[unit, c, k]
                    for k in range(3)
                    for c in range(2)
                    if 0 <= frame + k - 1 < 4
                ),
                ladder.biases[1][unit],
            )
            torch.testing.assert_close(up[:, 3 * frame + unit], total)
    inner = ((up - ladder.bias(1)) * h).sum()
    torch.testing.assert_close(inner, (x * ladder.down(1, h)).sum())
    one = SequenceLadder((2, 3), frames=1, kernel=1).double()
    dense = Ladder((2, 3)).double()
    with torch.no_grad():
        dense.weights[0].copy_(one.weights[0][..., 0].t())
    torch.testing.assert_close(one.up(1, x[:, :2]), dense.up(1, x[:, :2]))
    torch.testing.assert_close(one.down(1, h[:, :3]), dense.down(1, h[:, :3]))


@pytest.mark.parametrize(("kernel", "known"), [(3, True), (1, False)])
def test_labels_of_frames_see_neighbours_as_far_as_the_filters_reach(kernel, known):
    """Every frame's class is the bit of the frame before: filters of three frames tell it, those of one cannot."""
    torch.manual_seed(0)
    x = torch.randint(0, 2, (500, 6)).float()
    before = torch.cat([torch.zeros(500, 1), x[:, :-1]], 1).long()
    rows = torch.cat([x, torch.eye(2)[before].flatten(1)], 1)
    gsn = dgm.GSN(6, hidden=(12,), classes=2, frames=6, kernel=kernel, noise=0.1, level=0.02)
    assert gsn.sample(2, steps=2).shape == (2, 18)
    objective = gsn.objective(steps=2, visible=0.0)
    dgm.fit(gsn, rows, objective=objective, epochs=15, learning_rate=0.02, progress=False)
    law = gsn.predict_proba(rows)
    assert law.shape == (500, 6, 2)
    torch.testing.assert_close(law.sum(-1), torch.ones(500, 6))
    right = float((law.argmax(-1) == before)[:, 1:].float().mean())
    assert right > 0.95 if known else right < 0.6
    again = dgm.GSN(**gsn.options())
    again.load_state_dict(gsn.state_dict())
    assert torch.equal(again.predict_proba(x, noisy=False), gsn.predict_proba(x, noisy=False))
    held = gsn.impute(rows, torch.arange(18) < 6, draws=5)
    assert torch.equal(held[:, :6], x)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"noise": -1.0}, "noise got -1"),
            ({"noise": [1.0]}, "expected a number, or one for each of 2"),
            ({"classes": 1}, "classes got 1"),
            ({"activation": "maxout"}, "activation got 'maxout'"),
            ({"hidden": []}, "hidden got"),
            ({"frames": 3}, "expected a number that divides them"),
            ({"kernel": 3}, "kernel got 3 without frames"),
            ({"frames": 2, "kernel": 4}, "expected an odd side"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            dgm.GSN(4, **{"hidden": (3, 3), **options})

    def test_labels(self):
        gsn = dgm.GSN(6, hidden=(5,), classes=2)
        for labels in (2, -1, 0.5, "a", torch.tensor([0, 1, 0])):
            with pytest.raises(ValueError, match="labels got"):
                gsn.sample(2, labels=labels)
        x = labelled(10)
        x[0, 6:] = 1
        with pytest.raises(ValueError, match="not one-hot"):
            dgm.fit(gsn, x, epochs=1, progress=False)
        with pytest.raises(ValueError, match="mark all its columns alike"):
            gsn.impute(labelled(10), torch.arange(8) < 7, draws=2)
        with pytest.raises(ValueError, match="has no classes"):
            dgm.GSN(6, hidden=(5,)).predict_proba(x[:, :6])


def test_a_classifier_that_is_surely_wrong_has_finite_figures():
    gsn = dgm.GSN(6, hidden=(20,), classes=2, noise=0.1)
    with torch.no_grad():
        gsn.top.weights[0].mul_(3000)
    figures = gsn.progress(labelled(50), labelled(50))
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["valid_log_label"] < -10


def test_chains_are_diagnosed_by_their_class_too():
    gsn = dgm.GSN(6, hidden=(5,), classes=3)
    state = gsn.opening(torch.zeros(2, 6)) | {"label": torch.eye(3)[[2, 1]]}
    assert gsn.scalars(state)["label"].tolist() == [2, 1]
