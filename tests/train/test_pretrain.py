"""Layer-wise pretraining with labels, annealed CD, and classifiers that start from a deep machine (figure 20.4)."""

import pytest
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm import error_rate, fine_tune
from pyro_dgm.data import binarise
from pyro_dgm.train.optimisers import Adam


def patterns(rows=300):
    """Two noisy patterns of six bits, and which one a row is."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (rows,), generator=generator)
    x = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])[labels]
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.1, 1 - x, x)
    return dgm.data.Split(x, dgm.data.Space("binary"), labels)


def dataset():
    rows = patterns()
    return dgm.data.Dataset("patterns", rows[:200], rows[200:250], rows[250:], (6,))


def test_labels_take_part_in_the_top_stage():
    """Its rows are the doubled upward pass and the label; the label's weights go to the label layer."""
    dbm = dgm.DBM(6, hidden=(4, 3), classes=2)
    x = dataset().labelled(2).train.x[:5]
    stages = dbm.stages()
    bottom, lift = next(stages)
    assert torch.equal(lift(x), x[:, :6].repeat(1, 2))
    oracle.randomise(bottom, torch.Generator().manual_seed(1))
    top, lift = next(stages)
    oracle.randomise(top, torch.Generator().manual_seed(2))
    h = torch.sigmoid(2 * x[:, :6] @ bottom.weight + bottom.hidden_bias)
    torch.testing.assert_close(lift(x), torch.cat([h, x[:, 6:]], 1).detach())
    assert list(stages) == []
    # What the deep machine's second layer sees of h1 and label is what the stage's did.
    machine = dbm().machine
    block = machine.graph.block("hidden2")
    state = {"visible": x[:, :6], "hidden1": h, "hidden2": torch.zeros(5, 3), "label": x[:, 6:].unsqueeze(1)}
    expected = lift(x) @ top.weight + top.hidden_bias
    torch.testing.assert_close(machine.fields(block, machine.statistics(state))[0], expected)


def test_without_labels_the_conditionals_of_the_rest_are_kept():
    dbm = oracle.randomise(dgm.DBM(6, hidden=(4, 3), classes=2), torch.Generator().manual_seed(3))
    bare = dbm.without_labels()
    assert bare.classes == 0
    joint, single = dbm().machine, bare().machine
    state = {"visible": torch.ones(1, 6), "hidden1": torch.ones(1, 4), "hidden2": torch.ones(1, 3)}
    nothing = {"label": torch.zeros(1, 1, 2)}
    torch.testing.assert_close(joint.energy({**state, **nothing}), single.energy(state))


def test_a_pretrained_classifier_learns_the_patterns():
    torch.manual_seed(0)
    data = dataset()
    dbm = dgm.DBM(6, hidden=(4, 3), classes=2)
    labelled = data.labelled(2)
    options = {"optimiser": "sgd", "batch_size": 20, "learning_rate": 0.2, "progress": False}
    layers = [{"epochs": 3}, {"epochs": 2, "objective": {"kind": "cd", "k": (1, 3)}}]
    runs = dgm.pretrain(dbm, labelled, layers=layers, **options)
    assert [len(run.history) for run in runs] == [3, 2]
    dgm.fit(dbm, labelled, epochs=2, **options)
    classify = fine_tune(dbm, labelled.train, classes=2, dropout=0.2, epochs=20, learning_rate=0.05)
    # Three flipped bits of six are rare: the best error is 1.6 %; on 50 rows six are five standard errors above it.
    assert error_rate(classify(labelled.test.x), labelled.test.labels) <= 6 / 50


@pytest.mark.parametrize("phase", [dgm.CD, dgm.PCD])
def test_annealed_k(phase, monkeypatch):
    """``fit`` moves k from the first to the last, epoch by epoch."""
    rbm, x = dgm.RBM.example()
    seen = []
    chosen = phase(k=(1, 5))
    original = type(chosen).negatives
    monkeypatch.setattr(phase, "negatives", lambda self, *a: (seen.append(self.k), original(self, *a))[1])
    dgm.fit(rbm, x, objective=dgm.NegativePhaseObjective(chosen), epochs=3, batch_size=100, progress=False)
    assert seen == [1, 3, 5]
    assert chosen.options()["k"] == [1, 5]


@pytest.mark.parametrize("k", [0, (1, 0), (1, 2, 3), 1.5, True])
def test_bad_k(k):
    with pytest.raises(ValueError, match="a pair"):
        dgm.CD(k=k)


def test_labels_stay_when_bits_are_redrawn():
    grey = patterns()
    grey = dgm.data.Split(grey.x * 0.9, dgm.data.Space("unit interval", "grey levels"), grey.labels)
    data = binarise(dgm.data.Dataset("grey", grey, grey, grey, (6,)), "stochastic").labelled(2)
    batch = next(data.batches(0, len(grey), 0))
    assert bool(((batch == 0) | (batch == 1)).all())
    assert sorted(batch[:, 6:].argmax(1).tolist()) == sorted(grey.labels.tolist())
    # Bits drawn with 0.9 where the level is 0.9: their sum is within six standard errors of its mean.
    ones = grey.x.sum()
    assert abs(batch[:, :6].sum() - ones) < 6 * (0.1 * ones) ** 0.5


def test_pretrain_checks_its_layers():
    dbn, x = dgm.DBN.example()
    with pytest.raises(ValueError, match="one for every hidden layer"):
        dgm.pretrain(dbn, x, layers=[{}])


def test_fine_tuning_needs_labels():
    dbn, x = dgm.DBN.example()
    with pytest.raises(ValueError, match="without labels"):
        fine_tune(dbn, dgm.data.Split(x, dgm.data.Space("binary")))


def test_fine_tuning_needs_a_deep_machine():
    vae, x = dgm.VAE.example()
    with pytest.raises(TypeError, match="fine_tune got a VAE; expected a deep machine"):
        fine_tune(vae, dgm.data.Split(x, dgm.data.Space("binary"), torch.arange(len(x)) % 2), classes=2)


def test_what_a_stage_starts_from_is_not_overwritten():
    """The turned-over machine's visible biases are the lower one's hidden biases, also after a (tiny) step of training."""
    dbn = dgm.DBN(6, hidden=(4, 6))
    dgm.pretrain(dbn, patterns().x, epochs=1, learning_rate=1e-7, optimiser="sgd", progress=False)
    torch.testing.assert_close(dbn.biases[1], dbn.recognition_biases[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(dbn.weights[1], dbn.weights[0].t(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("hidden", [(4, 3), (4, 3, 2)])
def test_layers_between_two_stages_have_the_field_on_which_the_stages_agree(hidden):
    """Biases are set so that both stages of a layer give it the same field; the deep machine must give it that field too."""
    generator = torch.Generator().manual_seed(2)
    dbm = dgm.DBM(5, hidden=hidden)
    states = [torch.rand(1, n, generator=generator) for n in (5, *hidden)]
    fields = [torch.randn(n, generator=generator) for n in hidden]
    for layer, (machine, _) in enumerate(dbm.stages()):
        with torch.no_grad():
            machine.weight.normal_(generator=generator)
            machine.hidden_bias.copy_(fields[layer] - 2 * states[layer][0] @ machine.weight)
            if layer:
                machine.visible_bias.copy_(fields[layer - 1] - 2 * machine.weight @ states[layer + 1][0])
    machine = dbm().machine
    names = ["visible", *(f"hidden{layer + 1}" for layer in range(len(hidden)))]
    statistics = machine.statistics(dict(zip(names, states, strict=True)))
    for layer in range(len(hidden) - 1):
        found = machine.fields(machine.graph.block(f"hidden{layer + 1}"), statistics)[0][0]
        torch.testing.assert_close(found, fields[layer])


@pytest.mark.parametrize("low", [0.4, 30.0], ids=["between 0 and 1", "elsewhere"])
def test_the_first_stage_of_real_rows_sees_them_as_they_are(low):
    """Rows next to ``low``: drawn as bits they would have a standard deviation of 0.49, or be refused."""
    torch.manual_seed(0)
    x = low + 0.05 * torch.randn(300, 5)
    dbn = dgm.DBN(5, hidden=(3, 2), unit="gaussian")
    dgm.pretrain(dbn, x, epochs=1, learning_rate=1e-4, progress=False)
    torch.testing.assert_close((-0.5 * dbn.log_precision).exp().detach(), torch.full((5,), 0.05), atol=0.02, rtol=0)


def test_a_gaussian_stage_hands_on_its_precision():
    torch.manual_seed(1)
    x = torch.randn(200, 3) * torch.tensor([0.2, 1.0, 5.0])
    dbn = dgm.DBN(3, hidden=(2, 2), unit="gaussian")
    stages = dbn.stages()
    machine, _ = next(stages)
    oracle.randomise(machine, torch.Generator().manual_seed(4))
    next(stages)
    torch.testing.assert_close(dbn.log_precision, machine.log_precision)
    expected = torch.sigmoid(machine.hidden_bias + (x * machine.beta) @ machine.weight)
    torch.testing.assert_close(dbn.posterior(x, 1), expected.detach())


def test_evidence_of_a_labelled_dbm_takes_rows_with_labels_as_base():
    labelled = dataset().labelled(2)
    dbm = dgm.DBM(6, hidden=(4, 3), classes=2)
    found = dbm.evidence(labelled.test.x, "ais", base=labelled.train.x, chains=5, temperatures=10, warmup=2)
    assert len(found.values) == 50


def test_a_dbm_grown_from_a_restricted_machine_starts_with_its_likelihood():
    """With the upper weights at zero (they start near it) every row has the restricted machine's likelihood, by enumeration."""
    dbm = dgm.DBM(6, hidden=(4, 3))
    stages = dbm.stages("restricted")
    machine, _ = next(stages)
    oracle.randomise(machine, torch.Generator().manual_seed(5))
    before = dbm.weights[1].detach().clone()
    assert list(stages) == []
    torch.testing.assert_close(dbm.weights[1], 0.1 * before)
    with torch.no_grad():
        dbm.weights[1].zero_()
    x = patterns().x[:10]
    torch.testing.assert_close(dbm.evidence(x, "exact").values, machine.evidence(x, "exact").values)
    torch.testing.assert_close(dbm.bound(x), -machine().free_energy(x) + 3 * torch.tensor(2.0).log())
    with pytest.raises(ValueError, match="restricted"):
        dbm.stages("tripled")
    with pytest.raises(ValueError, match="no labels"):
        next(dgm.DBM(6, hidden=(4, 3), classes=2).stages("restricted"))


def test_fine_tuning_twice_gives_the_same():
    """The head's first weights, dropout and the batches' order all come from the seed."""
    dbn, x = dgm.DBN.example()
    rows = dgm.data.Split(x, dgm.data.Space("binary"), torch.arange(len(x)) % 2)
    options = {"classes": 2, "epochs": 2, "dropout": 0.5, "input_dropout": 0.2}
    found = [fine_tune(dbn, rows, **options, seed=seed)(x) for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def constant():
    """Scores that do not depend on the row: a bias for each of two classes."""
    network = torch.nn.Linear(1, 2)
    torch.nn.init.zeros_(network.weight).requires_grad_(False)
    return network


@pytest.mark.parametrize(
    ("weights", "odds"), [(None, 3.0), ("balanced", 1.0), ([1.0, 2.0], 1.5), (torch.tensor([1, 3]), 1.0)]
)
def test_class_weights_shift_the_scores(weights, odds):
    """Of 30 rows of one class and 10 of the other the best odds are 30 w_0 to 10 w_1 (the weighted loss is convex)."""
    network = constant()
    labels = torch.arange(40) % 4 == 0
    losses = dgm.fit_classifier(
        network, torch.zeros(40, 1), labels.long(), epochs=400, batch_size=40, learning_rate=0.1, class_weights=weights
    )
    assert torch.allclose((network.bias[0] - network.bias[1]).exp(), torch.tensor(odds), rtol=1e-2)
    share = torch.tensor(odds / (1 + odds))
    assert losses[-1] == pytest.approx(float(-share * share.log() - (1 - share) * (1 - share).log()), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [0, 1, 5]}, "labels got the class 5; the network has scores of classes 0 to 1"),
        ({"labels": [0, -1, 1]}, "labels got -1"),
        ({"labels": [0.0, 1.0, 1.0]}, "expected one integer for each"),
        ({"labels": [0, 1]}, "got 3 rows and labels of shape"),
        ({"class_weights": [1.0]}, "expected 2 positive numbers"),
        ({"class_weights": [1.0, -1.0]}, "expected 2 positive numbers"),
        ({"class_weights": "even"}, "expected one of balanced"),
        ({"epochs": 0}, "epochs got 0"),
        ({"batch_size": 0}, "batch_size got 0"),
        ({"learning_rate": 0}, "learning_rate got 0"),
    ],
)
def test_classifiers_refuse_what_does_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        dgm.fit_classifier(constant(), torch.zeros(3, 1), **{"labels": [0, 1, 1], **options})


def test_fine_tuning_refuses_labels_of_other_classes():
    dbn, x = dgm.DBN.example()
    rows = dgm.data.Split(x, dgm.data.Space("binary"), torch.arange(len(x)))
    with pytest.raises(ValueError, match="labels got the class 9; expected 0 to 1"):
        fine_tune(dbn, rows, classes=2)


def test_error_rate_needs_one_label_a_row():
    for labels in (torch.tensor([0]), torch.zeros(3, dtype=torch.long), torch.zeros(2, 1, dtype=torch.long)):
        with pytest.raises(ValueError, match="one class number for each row"):
            error_rate(torch.zeros(2, 3), labels)


def test_pretraining_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    """A stage that is finished, one that was stopped in its second epoch, one that had not begun; the end is bit-identical."""
    x = patterns().x[:40]
    options = {"epochs": 2, "batch_size": 10, "progress": False}

    def deep():
        torch.manual_seed(6)
        return dgm.DBN(6, hidden=(5, 4, 3))

    whole = deep()
    dgm.pretrain(whole, x, **options, out=str(tmp_path / "whole"))
    stopped, taken, step = deep(), [], Adam.step

    def counted(self, *arguments):
        taken.append(1)
        if len(taken) == 8 + 6:  # 36 rows are four batches
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Adam, "step", counted)
        with pytest.raises(KeyboardInterrupt):
            dgm.pretrain(stopped, x, **options, out=str(tmp_path / "stopped"))
    assert not (tmp_path / "stopped" / "layer3").exists()
    resumed = deep()
    runs = dgm.pretrain(resumed, x, **options, out=str(tmp_path / "stopped"), resume=True)
    assert [len(run.history) for run in runs] == [2, 2, 2]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_frozen_layers_stay():
    dbm, x = dgm.DBM.example()
    dbm.weights[0].requires_grad_(False)
    before = dbm.weights[0].clone(), dbm.weights[1].detach().clone()
    dgm.pretrain(dbm, x, epochs=1, progress=False)
    assert torch.equal(dbm.weights[0], before[0])
    assert not torch.equal(dbm.weights[1], before[1])
