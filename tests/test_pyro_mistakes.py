"""Slips of users who know Pyro are answered in words: what was got, what was expected, what to do."""

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

import pyro_dgm as dgm


def svi(program):
    """Stock SVI of a program without latent sites."""
    return SVI(dgm.negative_phase(program, dgm.PCD(chains=4)), lambda *_: None, Adam({"lr": 0.01}), Trace_ELBO())


@pytest.mark.parametrize("cls", [dgm.RBM, dgm.GaussianRBM, dgm.ProductOfT, dgm.BoltzmannMachine])
def test_values_of_another_precision(cls):
    """Torch's own words are of addmv, which nobody called."""
    model, x = cls.example()
    with pytest.raises(ValueError, match=r"got values of torch.float64; expected torch.float32.*, or the model"):
        model().log_prob(x.double())
    with pytest.raises(ValueError, match=r"site 'x'(.|\n)*x.to\(torch.float32\)"):
        svi(model.model).step(x.double())
    model.double()
    assert svi(model.model).step(x.double()) is not None


@pytest.mark.parametrize("dtype", [torch.long, torch.bool])
def test_bits_that_are_no_floating_numbers(dtype):
    rbm, x = dgm.RBM.example()
    with pytest.raises(ValueError, match=rf"got values of {dtype}; expected torch.float32.*x.to\(torch.float32\)$"):
        rbm().log_prob(x.to(dtype))


def test_a_model_in_the_place_of_its_distribution():
    rbm, x = dgm.RBM.example()

    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", rbm, obs=x)

    for run in (svi(program).step, lambda x: rbm.log_prob(x)):
        with pytest.raises(AttributeError, match=r"RBM is a model.*model\(\).log_prob\(x\).*pyro.sample"):
            run(x)
    with pytest.raises(AttributeError, match=r"VAE has no log_prob.*dgm.log_likelihood"):
        dgm.VAE.example()[0].log_prob(x)


def test_one_row_is_no_batch():
    """It counted as often as it has columns."""
    for model, x in (dgm.RBM.example(), dgm.NADE.example(), dgm.VAE.example()):
        with pytest.raises(ValueError, match=rf"got {len(x[0])} numbers, as one row has; expected rows"):
            Trace_ELBO().loss(model.model, lambda *_: None, x[0])


@pytest.mark.parametrize("cls", [dgm.RBM, dgm.GaussianRBM, dgm.SpikeSlabRBM])
def test_shifts_of_another_number_of_units(cls):
    """A network with too many outputs."""
    model, _ = cls.example()
    units = model.hidden
    with pytest.raises(
        ValueError, match=rf"hidden_shift got shape \(7, {units + 1}\); expected batch_shape x {units},"
    ):
        model(hidden_shift=torch.zeros(7, units + 1))
    for shift in (torch.zeros(7, 1), torch.zeros(7, units)):
        assert model(hidden_shift=shift).batch_shape == (7,)


def test_unknown_options_and_missing_arguments_name_those_that_there_are():
    with pytest.raises(TypeError, match=r"^RBM got an .*'hiden', is it hidden\? expected visible, hidden$"):
        dgm.RBM(12, hiden=4)
    rbm, x = dgm.RBM.example()
    with pytest.raises(TypeError, match=r"^RBM.impute missing a required argument: 'known'; expected x, known, draws$"):
        rbm.impute(x)


@pytest.mark.parametrize("verb", [dgm.fit, lambda program, x: dgm.condition(program, x, x[0] > 0)])
def test_programs_given_to_verbs_of_models(verb):
    with pytest.raises(ValueError, match=r"got .*expected a model of pyro_dgm\. A Pyro program .*LatentVariableModel"):
        verb(lambda x: None, torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda rbm, x: dgm.fit(rbm, x, lr=0.1), "fit got .*'lr', is it learning_rate\\? expected model, data, "),
        (lambda rbm, x: dgm.fit(rbm, x, optimizer="sgd"), "'optimizer', is it optimiser\\?"),
        (lambda rbm, x: dgm.condition(rbm, x, x > 0, num_samples=3), "condition got .*'num_samples', is it draws\\?"),
        (
            lambda rbm, x: dgm.data.load("digits", binarization="fixed"),
            "load got .*'binarization', is it binarisation\\?",
        ),
        (lambda rbm, x: dgm.fit(rbm), "fit missing a required argument: 'data'; expected model, data"),
    ],
)
def test_arguments_by_other_names(call, said):
    with pytest.raises(TypeError, match=said):
        call(*dgm.RBM.example())


def test_warnings_point_at_the_line_that_asked():
    """However many decorators lie between."""
    rows = torch.rand(20, 6).round()
    gmmn = dgm.GMMN(6, latent=2, hidden=(4,))
    with pytest.warns(UserWarning, match="generated rows become narrower") as caught:
        dgm.fit(gmmn, rows, epochs=1, batch_size=8, progress=False)
    assert {warning.filename for warning in caught if "narrower" in str(warning.message)} == {__file__}


@pytest.mark.parametrize("cls", [dgm.DBM, dgm.PointwiseGatedRBM, dgm.ConvolutionalDBM])
def test_inference_in_real_numbers_refuses_hidden_bits(cls):
    """Their sites said that they were real, and NUTS drew hidden bits with deviations above 3."""
    model, x = cls.example()
    with pytest.raises(ValueError, match="cannot handle discrete sample site"):
        MCMC(NUTS(model.model), num_samples=1, warmup_steps=1, disable_progbar=True).run(x)
    guide = AutoNormal(model.model)
    with pytest.raises(ValueError, match="cannot handle discrete sample site"):
        SVI(dgm.negative_phase(model.model, dgm.CD()), guide, Adam({"lr": 0.01}), Trace_ELBO()).step(x)


@pytest.mark.parametrize("cls", [dgm.ConditionalRBM, dgm.ClassRBM, dgm.ConvolutionalDBM, dgm.HierarchicalVAE, dgm.DRAW])
def test_programs_say_what_is_wrong_with_their_rows(cls):
    """Torch's own words are of products and splits inside the program."""
    model, x = cls.example()
    name, width = cls.__name__, x.shape[1]

    def step(rows):
        SVI(dgm.negative_phase(model.model, dgm.CD()), model.guide, Adam({"lr": 0.01}), Trace_ELBO()).step(rows)

    with pytest.raises(ValueError, match=rf"programs of {name} got values of torch.float64; expected torch.float32"):
        step(x.double())
    with pytest.raises(
        ValueError, match=rf"programs of {name} got ndarray; expected a tensor of rows, torch.as_tensor"
    ):
        step(x.numpy())
    with pytest.raises(ValueError, match=rf"{name}.* got data of shape \(10, {width - 1}\); expected rows x"):
        step(x[:, 1:])


@pytest.mark.parametrize("cls", [dgm.ConditionalRBM, dgm.RNNRBM, dgm.ClassRBM, dgm.VariationalRNN])
def test_missing_values_are_no_fault_of_the_weights(cls):
    """They made the biases of a machine NaN, and users were sent to their last checkpoint."""
    model, x = cls.example()
    holes = x.clone()
    holes[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"NaN|not finite") as caught:
        Trace_ELBO().loss(model.model, model.guide, holes)
    assert "checkpoint" not in str(caught.value)


def test_errors_of_programs_on_good_rows_stay_as_they_are():
    model, x = dgm.ConditionalRBM.example()
    with torch.no_grad():
        model.visible_bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"'visible' for x holds nan.*checkpoint"):
        Trace_ELBO().loss(model.model, model.guide, x)


@pytest.mark.parametrize("bad", [7.0, torch.nan])
def test_inputs_of_a_joint_machine_are_checked_like_its_outputs(bad):
    """Bits of 7 among the inputs had an energy, and so a log-probability."""
    model, x = dgm.JointGatedRBM.example()
    rows = x.clone()
    rows[0, 0] = bad
    with pytest.raises(ValueError, match=r"within the support"):
        pyro.poutine.trace(model.model).get_trace(rows).log_prob_sum()


def test_chains_without_programs_say_so():
    model, _ = dgm.GSN.example()
    with pytest.raises(AttributeError, match=r"GSN has no program 'model'.*dgm.fit\(model, data\)"):
        SVI(model.model, model.guide, Adam({}), Trace_ELBO())
    assert not hasattr(model, "guide")
