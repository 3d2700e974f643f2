"""Products by sums of bfloat16 terms against products in double precision."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from pyro_dgm.in_jax import _product  # noqa: E402


@pytest.fixture
def weight(monkeypatch):
    monkeypatch.setattr(_product, "has_matrix_units", lambda: True)
    return np.random.default_rng(0).normal(size=(300, 200)).astype("float32") * 10.0 ** np.arange(-4, 4).repeat(25)


@pytest.mark.parametrize(("terms", "left"), [(1, 2.0**-8), (2, 2.0**-17), (3, 0.0)])
def test_what_the_terms_leave_out_of_a_weight(weight, terms, left):
    """Eight binary digits a term leave half a unit of the last; the next term's sign is worth one more."""
    weight = weight.astype("float32")
    found = jax.jit(lambda w: _product.parts(w, terms))(weight)
    assert [t.dtype for t in found] == [jax.numpy.bfloat16] * terms
    rest = np.abs(sum(np.asarray(t, "float64") for t in found) - weight) / np.abs(weight)
    assert rest.max() <= left
    assert rest.max() >= left / 4, "as many digits as that, and no more"


def test_products_of_bits_are_the_terms_sums(weight):
    weight = weight[:, :100].astype("float32")
    bits = (np.random.default_rng(1).random((50, 300)) < 0.5).astype("float32")
    exact = bits.astype("float64") @ weight.astype("float64")
    # A sum of n single-precision numbers is off by at most n half units in the last place of the sum of their sizes.
    most = 300 * 2.0**-24 * (bits @ np.abs(weight))
    found = np.asarray(_product.product(bits, _product.parts(weight, 3)))
    assert found.dtype == np.float32
    assert (np.abs(found - exact) <= most).all()
    coarse = np.asarray(_product.product(bits, _product.parts(weight, 1)))
    assert (np.abs(coarse - exact) > most).mean() > 0.5


def test_other_weights_stay_whole(weight):
    assert _product.parts(weight, 0)[0] is weight
    double = weight.astype("float64")
    assert _product.parts(double, 2)[0] is double
