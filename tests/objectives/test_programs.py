"""Estimators around programs of all kinds: what they take equals Trace_ELBO on the same draws, what they refuse is named."""

import math
import types

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import boltzmann as oracle
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.optim import SGD

import pyro_dgm as dgm
from pyro_dgm.inference import sites
from pyro_dgm.objectives.estimators.wake_sleep import asleep

X = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _fresh():
    pyro.clear_param_store()
    torch.manual_seed(0)


def decoded(z):
    return dist.Normal(z.sum(-1, keepdim=True).expand(*z.shape[:-1], 3), 1.0).to_event(1)


def model(x, plate="data", size=None, subsample_size=None, positive=False, extra=None):
    """Two latents a row; ``positive`` ones have a support that automatic guides must transform to."""
    with pyro.plate(plate, size or len(x), subsample_size=subsample_size) as rows:
        prior = dist.LogNormal if positive else dist.Normal
        z = pyro.sample("z", prior(torch.zeros(2), 1.0).to_event(1))
        if extra is not None:
            z = extra(z)
        pyro.sample("x", decoded(z), obs=x[rows] if subsample_size or size else x)


class Guide(torch.nn.Module):
    """A guide with a parameter, over a data plate of any kind."""

    def __init__(self, kind="gauss", plate="data", size=None, subsample_size=None, extra=None):
        super().__init__()
        self.net = torch.nn.Linear(3, 2)
        self.kind, self.extra, self.plate = kind, extra, (plate, size, subsample_size)

    def forward(self, x):
        name, size, subsample_size = self.plate
        with pyro.plate(name, size or len(x), subsample_size=subsample_size) as rows:
            figures = self.net(x[rows]) if subsample_size else self.net(x).mean(0)
            fn = dist.Normal(figures, 0.5) if self.kind == "gauss" else dist.Bernoulli(logits=figures)
            z = pyro.sample("z", fn.to_event(1))
            if self.extra is not None:
                self.extra(z)


def bits(x, subsample_size=None):
    with pyro.plate("data", len(x), subsample_size=subsample_size) as rows:
        z = pyro.sample("z", dist.Bernoulli(torch.full((2,), 0.4)).to_event(1))
        pyro.sample("x", decoded(z), obs=x[rows])


def step(program, guide, estimator, seed=1):
    """The loss and the gradients of all parameters of the guide."""
    guide.zero_grad()
    torch.manual_seed(seed)
    loss = estimator.differentiable_loss(program, guide, X)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in guide.parameters()]


def stock(particles=1):
    return Trace_ELBO(num_particles=particles, max_plate_nesting=1, vectorize_particles=True)


def plain(particles):
    return dgm.NVIL(particles, running_mean=False, normalise=False)


def automatic(program):
    """An automatic guide with parameters that are not what it starts from."""
    guide = AutoNormal(program, init_scale=0.7)
    guide(X)
    for p in guide.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return guide


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("estimator", "particles"), [(dgm.IWAE(1), 1), (plain(1), 1), (plain(3), 3), (dgm.DReG(1), 1)])
def test_automatic_guides_equal_pyros_estimator(estimator, particles, positive):
    """The auxiliary site and the point mass that is made of it both count; both have paths. DReG has another gradient."""

    def program(x):
        model(x, positive=positive)

    guide = automatic(program)
    ours, theirs = step(program, guide, estimator), step(program, guide, stock(particles))
    torch.testing.assert_close(ours[0], theirs[0])
    if not isinstance(estimator, dgm.DReG):
        torch.testing.assert_close(ours[1], theirs[1])


def test_weights_of_an_automatic_guide_by_hand():
    """log q(z) of a positive latent: the Gaussian's density at log z less log z; draws stay what they are without paths."""

    def program(x):
        model(x, positive=True)

    guide = automatic(program)
    for estimator in (dgm.IWAE(4), dgm.ReweightedWakeSleep(4)):
        run = estimator.draw(program, guide, (X,), {}, paths=isinstance(estimator, dgm.IWAE))
        z = run.guide_trace.nodes["z"]["value"].reshape(4, 7, 2)
        assert z.requires_grad == isinstance(estimator, dgm.IWAE)
        log_q = (dist.Normal(guide.locs.z, guide.scales.z).log_prob(z.log()) - z.log()).sum(-1)
        torch.testing.assert_close(run.figures().log_q, log_q)
        log_p = dist.LogNormal(0.0, 1.0).log_prob(z).sum(-1) + decoded(z).log_prob(X)
        torch.testing.assert_close(run.figures().log_p, log_p)


def test_doubly_reparameterised_gradients_of_an_automatic_guide():
    """A guide that draws the transformed latent itself, with the same numbers, has the same gradients."""

    def program(x):
        model(x, positive=True)

    guide = automatic(program)

    def by_hand(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LogNormal(guide.locs.z, guide.scales.z).to_event(1))

    found = []
    for q in (guide, by_hand):
        guide.zero_grad()
        torch.manual_seed(3)
        loss = dgm.DReG(3).differentiable_loss(program, q, X)
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in guide.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_a_subsampled_automatic_guide():
    """Its plate hands its rows to the model; value and gradient are those of Pyro's estimator."""

    def program(x):
        model(x, subsample_size=4)

    guide = automatic(program)
    ours, theirs = step(program, guide, dgm.IWAE(1)), step(program, guide, stock())
    torch.testing.assert_close(ours, theirs)
    assert math.isfinite(SVI(program, guide, SGD({"lr": 0.01}), dgm.IWAE(3)).step(X))


def test_an_auxiliary_bit_is_scored():
    """A latent that is a point mass at what a bit says: value and gradient by enumeration of the bit."""
    logit = torch.nn.Parameter(torch.tensor(0.4))

    def program(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.3))
            pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            bit = pyro.sample("bit", dist.Bernoulli(logits=logit.expand(len(x))), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(1 - bit))

    x = torch.tensor(1.2)
    exact = logit.detach().double().requires_grad_()
    q = torch.sigmoid(exact)  # of z = 0
    elbo = sum(
        share * (math.log(p) - share.log() + dist.Normal(2 * z, 1.0).log_prob(x))
        for share, p, z in ((q, 0.7, 0.0), (1 - q, 0.3, 1.0))
    )
    expected = {"all": torch.autograd.grad(elbo, exact)[0]}
    for estimator in (dgm.NVIL(), dgm.NVIL(local=True)):
        blocks, values = [], []
        for _ in range(30):
            loss = estimator.differentiable_loss(program, guide, x.expand(20_000)) / 20_000
            blocks.append({"all": -torch.autograd.grad(loss, logit)[0].double()})
            values.append(-loss.detach())
        oracle.meets(blocks, expected, 0.25)
        values = torch.stack(values)
        assert abs(values.mean() - elbo.detach()) < 6 * values.std() / 30**0.5
    with pytest.raises(ValueError, match="'bit' of the guide is a Bernoulli"):
        dgm.DReG(2).loss(program, guide, x.expand(3))


@pytest.mark.parametrize("where", ["guide", "model", "outside"])
@pytest.mark.parametrize("estimator", [dgm.IWAE(3), plain(2), dgm.DReG(2), dgm.ReweightedWakeSleep(2, 1.0, 1.0)])
def test_deterministic_values_change_nothing(where, estimator):
    """In the guide's plate, in the model's, or outside of all plates, with the default event dimensions and with others."""
    guide = Guide()
    expected = step(model, guide, estimator)

    def extra(z):
        pyro.deterministic("v", 2 * z, event_dim=1)
        return pyro.deterministic("w", z)

    def outside(x):
        assert pyro.deterministic("w", torch.ones(3)).shape == (3,)
        model(x)

    if where == "guide":
        guide.extra = extra
    program = {"guide": model, "model": lambda x: model(x, extra=extra), "outside": outside}[where]
    torch.testing.assert_close(step(program, guide, estimator), expected)


def test_factors_of_reparameterised_draws_equal_pyros_estimator():
    shift = torch.nn.Parameter(torch.tensor(0.3))
    guide = Guide(extra=lambda z: pyro.factor("f", shift * z.sum(-1), has_rsample=True))
    guide.shift = shift
    torch.testing.assert_close(step(model, guide, dgm.IWAE(1)), step(model, guide, stock()))


def test_factors_of_other_draws_are_scored():
    """A bit that Pyro does not know of, its probability told by a factor, is as good as a site."""

    class Untold(Guide):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                fn = dist.Bernoulli(logits=self.net(x)).to_event(1)
                z = torch.bernoulli(fn.mean.detach())
                pyro.sample("z", dist.Delta(z, event_dim=1))
                pyro.factor("f", fn.log_prob(z), has_rsample=False)

    class Told(Guide):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Bernoulli(logits=self.net(x)).to_event(1))

    untold, told = Untold(), Told()
    told.net = untold.net
    for estimator in (plain(1), dgm.IWAE(1)):
        torch.testing.assert_close(step(bits, untold, estimator), step(bits, told, estimator))


def test_an_observation_of_the_guide_counts_and_is_no_latent():
    guide = Guide(extra=lambda z: pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=torch.zeros(7)))
    torch.testing.assert_close(step(model, guide, dgm.IWAE(1)), step(model, guide, stock()))


def test_what_automatic_guides_cannot_do():
    for estimator, guide, message in (
        (dgm.ReweightedWakeSleep(2, 0.0, 1.0), AutoNormal(model), "sleep needs.*'z_unconstrained'"),
        (dgm.IWAE(2), AutoDiagonalNormal(model), "'_AutoDiagonalNormal_latent' is not in the data plate.*AutoNormal"),
        (dgm.IWAE(2), Guide(extra=lambda z: pyro.factor("f", z.sum(-1))), r"factor\('f'\).*has_rsample"),
        (dgm.IWAE(2), Guide(extra=lambda z: pyro.sample("y", dist.Normal(0.0, 1.0))), r"\['y'\].*is_auxiliary"),
    ):
        pyro.clear_param_store()
        with pytest.raises(ValueError, match=message):
            estimator.loss(model, guide, X)
    with pytest.raises(ValueError, match=r"annealing needs.*'z_unconstrained'"):
        dgm.annealed_log_weights(model, automatic(model), X, temperatures=5)
    with pytest.raises(ValueError, match=r"KL term needs.*'z_unconstrained'"):
        dgm.kl_per_latent(model, automatic(model), X)


@pytest.mark.parametrize("estimator", [dgm.IWAE(2), plain(1), dgm.ReweightedWakeSleep(2)])
@pytest.mark.parametrize("plate", ["data", "rows"])
@pytest.mark.parametrize("size", [1, 5, 9])
@pytest.mark.parametrize("indexed", [False, True])
def test_plates_of_other_sizes(estimator, plate, size, indexed):
    """Whether the model's program fails at them or runs on the guide's rows."""
    message = f"site 'z' of the guide is in plate '{plate}' of size {size}, but site 'z' of the model in plate 'data' of size 7"
    with pytest.raises(ValueError, match=message):
        estimator.loss(lambda x: model(x, size=7 if indexed else None), Guide(plate=plate, size=size), X)


def test_plates_that_are_not_the_data_plate():
    def program(x, size, observe=False):
        with pyro.plate("data", len(x), dim=-1):
            with pyro.plate("inner", size, dim=-2):
                pyro.sample("z", dist.Normal(torch.zeros(size, 7), 1.0))
            if observe:
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=x[:, 0])

    def observed(x):
        program(x, 3, observe=True)

    assert math.isfinite(dgm.IWAE(2, max_plate_nesting=2).loss(observed, lambda x: program(x, 3), X))
    with pytest.raises(ValueError, match=r"guide is in plate 'inner' of size 2, but site 'z' of the model.*of size 3"):
        dgm.IWAE(2, max_plate_nesting=2).loss(observed, lambda x: program(x, 2), X)
    with pytest.raises(
        ValueError, match="'rows' of size 3 of 7 rows, but site 'z' of the model in plate 'data' of size 4 of 7"
    ):
        dgm.IWAE(2).loss(lambda x: model(x, subsample_size=4), Guide(plate="rows", subsample_size=3), X)


@pytest.mark.parametrize("estimator", [dgm.IWAE(2), dgm.NVIL(2), dgm.ReweightedWakeSleep(2), dgm.DReG(2)])
@pytest.mark.parametrize("validated", [False, True])
def test_parameters_that_became_nan_name_the_site(estimator, validated):
    for part, message in (("encoder", "site 'z' of the guide"), ("decoder", "site 'x' of the model")):
        vae, x = dgm.VAE.example()
        with torch.no_grad():
            next(p for n, p in vae.named_parameters() if n.startswith(part)).fill_(torch.nan)
        with pyro.validation_enabled(validated), pytest.raises(ValueError, match=f"{message}.*learning rate"):
            SVI(vae.model, vae.guide, SGD({"lr": 0.1}), estimator).step(x)


def test_draws_that_fail_name_the_site():
    """A Bernoulli draw fails at NaN whether parameters are validated or not."""
    guide = Guide("bits")
    torch.nn.init.constant_(guide.net.bias, torch.nan)
    for validated in (True, False):
        with pyro.validation_enabled(validated), pytest.raises(ValueError, match="'z' of the guide could not be drawn"):
            dgm.IWAE(2).loss(bits, guide, X)


def test_other_errors_of_programs_come_through():
    def broken(x):
        model(x)
        raise ValueError("something else")

    with pytest.raises(ValueError, match=r"^something else"):
        dgm.IWAE(2).loss(broken, Guide(), X)
    with pytest.raises(ValueError, match=r"^something else"):
        dgm.IWAE(2).loss(model, broken, X)
    with pytest.raises(ValueError, match=r"log-probability of site 'x' failed: .*shape"):
        dgm.IWAE(2).loss(lambda x: model(x[:, :2]), Guide(), X)


def test_sleep_sees_the_rows_of_a_subsampled_plate():
    """The guide's log q at the dream, by hand: it sees drawn rows where the plate takes them, in whatever argument they are."""
    guide = Guide("bits", subsample_size=4)

    def program(x):
        bits(x, 4)

    seen = []
    handle = guide.net.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    torch.manual_seed(5)
    trace = poutine.trace(poutine.uncondition(program)).get_trace(X)
    rows, z, drawn = (trace.nodes[n]["value"] for n in ("data", "z", "x"))
    torch.manual_seed(5)
    found = asleep(program, guide, (X,), {}, 1)
    handle.remove()
    torch.testing.assert_close(seen[0], drawn)
    assert not torch.equal(drawn, X[rows])
    expected = dist.Bernoulli(logits=guide.net(drawn)).log_prob(z).sum(-1)
    torch.testing.assert_close(found, expected)
    torch.manual_seed(5)
    torch.testing.assert_close(asleep(program, guide, (), {"x": X}, 1), expected)
    assert math.isfinite(SVI(program, guide, SGD({"lr": 0.01}), dgm.ReweightedWakeSleep(3, 0.0, 1.0)).step(X))


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("kind", ["nvil", "local", "optimal"])
def test_baselines_see_the_rows_of_a_subsampled_plate(kind, by_name):
    guide, seen = Guide("bits", subsample_size=4), []
    net = torch.nn.Linear(3, 2 if kind == "optimal" else 1)
    net.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    guide.net.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    estimator = {
        "nvil": dgm.NVIL(2, baseline=net),
        "local": dgm.NVIL(2, baseline=net, local=True),
        "optimal": dgm.OptimalBaseline(list(guide.parameters()), baseline=net),
    }[kind]
    before = net.weight.detach().clone()
    svi = SVI(lambda x: bits(x, 4), guide, SGD({"lr": 0.01}), estimator)
    svi.step(x=X) if by_name else svi.step(X)
    torch.testing.assert_close(seen[0], seen[-1])
    assert seen[0].shape == (4, 3)
    assert not torch.equal(net.weight, before)


def test_local_signals_of_a_subsampled_plate():
    """Other rows are no other draws: a term without latents depends on none."""

    def program(x):
        with pyro.plate("data", len(x), subsample_size=4) as rows:
            pyro.sample("z", dist.Bernoulli(torch.full((2,), 0.4)).to_event(1))
            pyro.sample("x", dist.Normal(x[rows], 1.0).to_event(1), obs=torch.zeros(4, 3))

    guide, estimator = Guide("bits", subsample_size=4), dgm.NVIL(2, local=True)
    run = estimator.draw(program, guide, (X,), {})
    terms = estimator._dependencies.terms(program, guide, run, (X,), {})
    assert terms == {("model", "z"): {"z"}, ("model", "x"): set(), ("guide", "z"): {"z"}}


def test_a_baseline_needs_the_first_argument():
    net = torch.nn.Linear(3, 1)

    def program(x, y):
        bits(x)

    guide = Guide("bits")
    with pytest.raises(ValueError, match=r"first argument.*\['x', 'y'\].*by position"):
        dgm.NVIL(baseline=net).loss(program, lambda x, y: guide(x), x=X, y=X)
    assert math.isfinite(dgm.NVIL(baseline=net).loss(program, lambda x, y: guide(x), X, y=X))


@pytest.mark.parametrize("subsample_size", [None, 4])
@pytest.mark.parametrize(("ours", "kind"), [(dgm.IWAE(1), "gauss"), (plain(1), "bits")])
def test_scales_of_rows_equal_pyros_estimator(ours, kind, subsample_size):
    """Values, and gradients along paths; Pyro scales the reward and the score, which is the scale twice."""
    scale = torch.linspace(0.5, 2.0, subsample_size or 7)
    guide, program = Guide(kind, subsample_size=subsample_size), model if kind == "gauss" else bits
    scaled = [
        poutine.scale(lambda x: program(x, subsample_size=subsample_size), scale=scale),
        poutine.scale(guide, scale=scale),
    ]
    found = []
    for estimator in (ours, stock()):
        guide.zero_grad()
        torch.manual_seed(4)
        loss = estimator.differentiable_loss(*scaled, X)
        loss.backward()
        found.append((loss.detach(), guide.net.bias.grad.clone()))
    torch.testing.assert_close(found[0][0], found[1][0])
    if kind == "gauss":
        torch.testing.assert_close(found[0][1], found[1][1])
        return
    # Every row's gradient by its own scale: rows one by one.
    torch.manual_seed(4)
    guide.zero_grad()
    losses, _ = ours.row_losses(lambda x: program(x, subsample_size=subsample_size), guide, (X,), {})
    (losses * scale * 7 / len(scale)).sum().backward()
    torch.testing.assert_close(found[0][1], guide.net.bias.grad)


@pytest.mark.parametrize(
    ("scales", "message"),
    [((torch.ones(5), torch.ones(5)), r"shape \(5,\); expected.*of shape \(7,\)"),
     ((torch.ones(7, 1), torch.ones(7, 1)), r"shape \(7, 1\)"),
     ((torch.full((7,), 2.0), 1.0), "site 'z' of the guide is scaled by 1 and site 'z' of the model by a number for every row"),
     ((2.0, 1.0), "site 'z' of the guide is scaled by 1 and site 'z' of the model by 2"),
     ((torch.tensor(2.0), torch.tensor([2.0])), None)],
)  # fmt: skip
def test_scales_that_do_not_fit(scales, message):
    guide = Guide()
    programs = [poutine.scale(p, scale=s) for p, s in zip((model, guide), scales, strict=True)]
    if message is None:
        torch.manual_seed(1)
        whole = dgm.IWAE(2).loss(*programs, X)
        torch.manual_seed(1)
        assert whole == pytest.approx(2 * dgm.IWAE(2).loss(model, guide, X))
        return
    with pytest.raises(ValueError, match=message):
        dgm.IWAE(2).loss(*programs, X)


@pytest.mark.parametrize("nesting", [0, -1, 1.5, math.inf, True, None])
def test_plates_are_counted_from_one(nesting):
    for make in (dgm.IWAE, dgm.NVIL, dgm.ReweightedWakeSleep, dgm.BidirectionalHelmholtz):
        with pytest.raises(ValueError, match=r"max_plate_nesting got .*at least 1"):
            make(max_plate_nesting=nesting)
    with pytest.raises(ValueError, match=r"max_plate_nesting got .*at least 1"):
        dgm.log_weights(model, Guide(), X, particles=2, max_plate_nesting=nesting)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_weights_of_phases_are_finite(bad):
    for make in (
        lambda: dgm.ReweightedWakeSleep(2, bad, 0.0),
        lambda: dgm.ReweightedWakeSleep(2, 0.0, bad),
        lambda: dgm.WakeSleep(sleep=bad),
    ):
        with pytest.raises(ValueError, match="finite"):
            make()


@pytest.mark.parametrize("kind", [dgm.RBM, dgm.GaussianRBM, dgm.BoltzmannMachine])
def test_wake_sleep_of_machines_without_latent_sites_is_their_likelihood(kind):
    machine, x = kind.example()
    objective = dgm.WakeSleep(dgm.ExactNegativePhase())
    objective.attach(machine)
    loss = objective.loss(x)
    loss.backward()
    ours = {n: p.grad.clone() for n, p in machine.named_parameters()}
    machine.zero_grad()
    other = dgm.NegativePhaseObjective(dgm.ExactNegativePhase())
    other.attach(machine)
    expected = other.loss(x)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours, {n: p.grad for n, p in machine.named_parameters()})
    dgm.fit(machine, x, objective=dgm.WakeSleep(dgm.CD(1)), epochs=1, progress=False)


def test_a_guide_without_latents_dreams_nothing():
    """So the model need not observe an argument."""

    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=2 * x)

    objective = dgm.WakeSleep()
    objective.attach(types.SimpleNamespace(model=program, guide=lambda x: None))
    torch.testing.assert_close(objective.loss(X), -dist.Normal(0.0, 1.0).log_prob(2 * X).sum(1).mean())


def test_sleep_of_a_model_without_latents_adds_nothing():
    generator, x = dgm.AffineGenerator.example()
    found = dgm.ReweightedWakeSleep(2, 1.0, 1.0).loss(generator.model, generator.guide, x)
    assert found == pytest.approx(dgm.IWAE(2).loss(generator.model, generator.guide, x))


def test_point_masses_have_no_sleep():
    dbm, x = dgm.DBM.example()
    with pytest.raises(ValueError, match="'hidden1' of the guide has the log-probability -inf at a draw of the model"):
        dgm.fit(dbm, x, objective=dgm.WakeSleep(dgm.CD(1)), epochs=1, progress=False)


@pytest.mark.parametrize(
    "estimator", [dgm.IWAE(2), dgm.NVIL(), dgm.VIMCO(2), dgm.DReG(2), dgm.BidirectionalHelmholtz(2)]
)
def test_an_empty_batch(estimator):
    with pytest.raises(ValueError, match="guide has no rows; pass a batch of at least one row"):
        estimator.loss(bits if isinstance(estimator, dgm.VIMCO) else model, Guide(), X[:0])

    def divides(x):
        return 1 / 0

    with pytest.raises(ZeroDivisionError, match="division"):
        estimator.loss(model, divides, X)


def test_a_site_of_weight_zero_fails_in_one_line():
    def weightless(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with poutine.scale(scale=0.0):
                pyro.sample("x", decoded(z), obs=x)

    with pytest.raises(ValueError, match=r"^Expected scale > 0 but got 0\.0 \(in the model, after site 'z'\)$"):
        dgm.IWAE(2).loss(weightless, Guide(), X)


@pytest.mark.parametrize("program", ["model", "guide"])
def test_a_failed_program_is_run_again_out_of_sight(program):
    """Under a trace of the caller's, a program that fails is looked into without its sites being entered twice."""

    def fails(x):
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Normal(0.0, 1.0))
            pyro.sample("b", dist.Normal(torch.tensor(torch.nan), 1.0))

    with poutine.trace(), pytest.raises(ValueError, match=f"site 'b' of the {program} has the log-prob"):
        sites.traced(fails, program, (X,), {})
