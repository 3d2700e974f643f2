"""What is deprecated still works, and warns at the user's line."""

import pytest

from pyro_dgm.deprecation import deprecated, renamed


@renamed(since="0.2.0", number="n")
def draw(n, steps=1):
    return n, steps


def test_an_old_argument_works_and_warns_where_it_is_written():
    with pytest.warns(FutureWarning, match="number= of draw is deprecated since 0.2.0, .* use n=") as told:
        assert draw(number=3, steps=2) == (3, 2)
    assert told[0].filename == __file__
    with pytest.raises(TypeError, match=r"draw\(\) got number and n, two names of one argument: use n"):
        draw(number=3, n=4)


@pytest.mark.filterwarnings("error")
def test_new_names_do_not_warn():
    assert draw(3) == draw(n=3) == (3, 1)


def test_an_old_function_warns_where_it_is_called():
    def old():
        deprecated("old", "new", since="0.2.0")

    with pytest.warns(FutureWarning, match="old is deprecated since 0.2.0, and will be removed: use new") as told:
        old()
    assert told[0].filename == __file__
