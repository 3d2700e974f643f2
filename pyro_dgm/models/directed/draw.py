"""Deep recurrent attentive writer, section 20.10.3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from ...checks import check_columns, check_count
from ...distributions.standard_normal import standard_normal
from ...inference.light import shared
from ...nets.attention import Drawing, Filters, Window
from ...nets.recurrent import Cell, State
from ...objectives.objective import Objective
from ..shared.examples import bits, seeded
from ..shared.latent import LatentVariableModel, bound_objective
from ..shared.rows import check_binary, check_rows, known_alone


class DRAW(LatentVariableModel):
    r"""Deep recurrent attentive writer: a VAE that draws on a canvas in steps (Gregor et al. 2015).

    For $t = 1 \ldots T$, $z_t \sim \mathcal N(0, I)$, $h^{dec}_t = \mathrm{LSTM}(z_t, h^{dec}_{t-1})$ and
    $c_t = c_{t-1} + \mathrm{write}(h^{dec}_t)$; then $x \sim \mathrm{Bernoulli}(\sigma(c_T))$. The guide follows the canvas:
    $\hat x_t = x - \sigma(c_{t-1})$, $r_t = \mathrm{read}(x, \hat x_t, h^{dec}_{t-1})$,
    $h^{enc}_t = \mathrm{LSTM}([r_t, h^{dec}_{t-1}], h^{enc}_{t-1})$ and $q(z_t \mid x, z_{<t}) = \mathcal N(\mu(h^{enc}_t),
    \mathrm{diag}\,\sigma^2(h^{enc}_t))$.

    It is trained on $\mathcal L(q) = E_q \log p(x \mid z) - \sum_t E_q\,\mathrm{KL}(q(z_t \mid x, z_{<t}) \,\|\,
    \mathcal N(0, I)) \le \log p(x)$ (20.76-78), in nats, each KL in closed form given the steps before it. The prior of $z_t$
    has no parents, so that this is exact although the guide is not factorial. Missing values (NaN) are left out of the
    likelihood; the guide sees zeros there, and no error.

    ``model(x)`` has the sites ``"z1"`` to ``"zT"``, ``rows x latent``, and ``"x"``, ``rows x visible``. The canvas $c_0$ and the
    initial states are learned. The paper's MNIST model is ``steps=64, attention=(2, 5)`` with the other defaults.

    Args:
        visible: the number of columns of the data, pictures row by row.
        shape: the pictures' height and width; by default square.
        steps: $T$.
        latent: the number of latent variables of every step.
        hidden: the number of units of either recurrent network.
        attention: the numbers of filters along a side of the read and of the write window, as in ``(2, 5)``; $h^{dec}$
            places the windows. None reads and writes whole pictures.

    Raises:
        ValueError: a number below one, a shape that does not fit, a window with more filters along a side than the
            picture's longer side has pixels.

    See also:
        ``dgm.VAE``, which has one step and no memory.

    Example:
        >>> import pyro_dgm as dgm
        >>> draw = dgm.DRAW(64, steps=3, latent=4, hidden=16, attention=(2, 3))
        >>> drawing = draw.drawing(5)
        >>> drawing.means.shape, drawing.centres.shape
        (torch.Size([3, 5, 64]), torch.Size([3, 5, 2]))
    """

    guide_needs_rows = True
    takes_missing = True

    network: _Network

    def __init__(
        self,
        visible: int,
        shape: Sequence[int] | None = None,
        steps: int = 10,
        latent: int = 100,
        hidden: int = 256,
        attention: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        visible, steps = check_columns(visible), check_count("steps", steps, what="the steps of a drawing")
        latent = check_count("latent", latent, what="the latent variables of a step")
        hidden = check_count("hidden", hidden, what="the units of a recurrent network")
        self.visible, self.steps, self.latent, self.hidden = visible, steps, latent, hidden
        self.shape = _shape(visible, shape, attention is not None)
        self.attention = None if attention is None else _attention(attention, self.shape)
        self.network = _Network(self.shape, latent, hidden, self.attention)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        network = self.network  # looked up once: every look-up registers all parameters
        canvas, decoder = shared("start", (), network.start)
        prior = standard_normal(self.latent, canvas, x)
        with self.data_plate(x, size):
            for step in range(self.steps):
                canvas, decoder = self._stroke(step, pyro.sample(f"z{step + 1}", prior), canvas, decoder)
            columns, known = known_alone(dist.Bernoulli(logits=canvas).to_event(1), x)
            return pyro.sample("x", columns, obs=known)

    def infer(self, x: Tensor, size: int | None = None) -> None:
        network = self.network
        canvas, decoder = shared("start", (), network.start)
        encoder, seen = network.encoder.start(), network.see(torch.where(x.isnan(), 0.0, x))
        with self.data_plate(x, size):
            for step in range(self.steps):
                encoder = network.look(x, seen, canvas, decoder, encoder)
                z = pyro.sample(f"z{step + 1}", network.posterior(encoder))
                if step + 1 < self.steps:
                    canvas, decoder = self._stroke(step, z, canvas, decoder)

    def _stroke(self, step: int, z: Tensor, canvas: Tensor, decoder: State) -> tuple[Tensor, State]:
        """The canvas and the decoder's state after a step, which guide and model share."""
        return shared(("stroke", step), (z, canvas, *decoder), lambda: self.network.stroke(z, canvas, decoder)[:2])

    def drawing(self, source: int | Tensor) -> Drawing:
        """The canvas after every step, and the place of every write window.

        Args:
            source: the number of new pictures to draw; or data, ``n x visible``, which the guide redraws.

        Raises:
            ValueError: a number below one, or data that do not fit.
        """
        if isinstance(source, Tensor):
            self.check_data(source)
        else:
            source = check_count("source", source, what="data, or the number of pictures")
        network, means, windows = self.network, [], []
        with torch.no_grad():
            if isinstance(source, Tensor):
                nodes = poutine.trace(self.guide).get_trace(source).nodes
            else:
                nodes = poutine.trace(self.model).get_trace(None, source).nodes
            canvas, decoder = network.start()
            for step in range(self.steps):
                z: Any = nodes[f"z{step + 1}"]["value"]
                canvas, decoder, filters = network.stroke(z, canvas, decoder)
                means.append(canvas.sigmoid())
                if filters is not None:
                    windows.append(filters)
        if self.attention is None:
            return Drawing(torch.stack(means), None, None)
        centres = torch.stack([filters.centre - 1 for filters in windows])
        return Drawing(torch.stack(means), centres, self.attention[1] * torch.stack([f.stride for f in windows]))

    def initialise(self, x: Tensor) -> None:
        """Start the empty canvas at the columns' means."""
        with torch.no_grad():
            self.network.canvas.copy_(torch.logit(x.mean(0), eps=1e-2))

    def objective(
        self,
        kind: Literal["elbo", "iwae"] = "elbo",
        particles: int = 1,
        kl_weight: float | None = None,
        kl_warmup: float | None = None,
    ) -> Objective:
        """The ELBO with its analytic KL terms, or ``"iwae"`` of several particles.

        ``kl_weight`` and ``kl_warmup``, of ``"elbo"``, are those of ``dgm.Elbo``.
        """
        return bound_objective(
            kind, particles, TraceMeanField_ELBO, ("elbo", "iwae"), kl_weight=kl_weight, kl_warmup=kl_warmup
        )

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "DRAW", missing=True)
        check_binary(x, "DRAW")

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "shape": list(self.shape),
            "steps": self.steps,
            "latent": self.latent,
            "hidden": self.hidden,
            "attention": None if self.attention is None else list(self.attention),
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(
            lambda: cls(12, shape=(3, 4), steps=3, latent=2, hidden=5, attention=(2, 3)), lambda: bits(10, 12)
        )


def _shape(visible: int, shape: Sequence[int] | None, needed: bool) -> tuple[int, int]:
    side = math.isqrt(visible)
    if shape is None:
        if needed and side**2 != visible:
            raise ValueError(f"attention over {visible} columns, which make no square, needs shape=(height, width)")
        return (side, side) if side**2 == visible else (1, visible)
    sides = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides) or math.prod(sides) != visible:
        raise ValueError(f"shape got {shape!r}; expected a height and a width whose product is visible, {visible}")
    return sides[0], sides[1]


def _attention(attention: Sequence[int], shape: tuple[int, int]) -> tuple[int, int]:
    filters = tuple(attention) if isinstance(attention, Sequence) else ()
    if len(filters) != 2 or not all(isinstance(size, int) and 1 <= size <= max(shape) for size in filters):
        raise ValueError(
            f"attention got {attention!r}; expected filters along a side of the read and of the write window, as in (2, 5), each "
            f"from 1 to the picture's longer side, {max(shape)}, or None"
        )
    return filters[0], filters[1]


class _Network(nn.Module):
    """The parameters of DRAW and the equations between its random sites."""

    def __init__(self, shape: tuple[int, int], latent: int, hidden: int, attention: tuple[int, int] | None) -> None:
        super().__init__()
        visible = math.prod(shape)
        read, write = attention or (None, None)
        self.reader = None if read is None else Window(read, shape, hidden, writes=False)
        self.writer = None if write is None else Window(write, shape, hidden, writes=True)
        glimpse = visible if read is None else read**2
        self.encoder = Cell((glimpse, glimpse, hidden), hidden)
        self.code = nn.Linear(hidden, 2 * latent)
        self.decoder = Cell((latent,), hidden)
        self.patch = nn.Linear(hidden, visible if write is None else write**2)
        self.canvas = nn.Parameter(torch.zeros(visible))

    def start(self) -> tuple[Tensor, State]:
        """The empty canvas and the decoder's first state."""
        return self.canvas, self.decoder.start()

    def see(self, x: Tensor) -> Tensor | None:
        """The encoder's input from whole pictures, the same at every step; None where a window reads them."""
        return self.encoder.weigh(0, x) if self.reader is None else None

    def look(self, x: Tensor, seen: Tensor | None, canvas: Tensor, decoder: State, encoder: State) -> State:
        """The encoder's next state, after reading the picture and its difference from the canvas."""
        missing = x.isnan()
        error, x = torch.where(missing, 0.0, x - canvas.sigmoid()), torch.where(missing, 0.0, x)
        if self.reader is not None:
            filters = self.reader(decoder.shown)
            seen, error = self.encoder.weigh(0, filters.read(x)), filters.read(error)
        inputs = self.encoder.weigh(1, error) + self.encoder.weigh(2, decoder.shown)
        return self.encoder(inputs if seen is None else seen + inputs, encoder)

    def posterior(self, encoder: State) -> dist.TorchDistribution:
        """The guide's distribution of a step's latents."""
        location, log_scale = self.code(encoder.shown).chunk(2, -1)
        return dist.Normal(location, log_scale.exp()).to_event(1)

    def stroke(self, z: Tensor, canvas: Tensor, decoder: State) -> tuple[Tensor, State, Filters | None]:
        """The canvas and the decoder's state after one step, and the window that was written to."""
        decoder = self.decoder(self.decoder.weigh(0, z), decoder)
        patch = self.patch(decoder.shown)
        if self.writer is None:
            return canvas + patch, decoder, None
        filters = self.writer(decoder.shown)
        return canvas + filters.write(patch), decoder, filters
