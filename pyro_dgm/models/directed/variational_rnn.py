"""Variational recurrent network for sequences of unequal length, section 20.10.3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self, cast

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from torch import Tensor, nn
from torch.nn.functional import softplus

from ...checks import check_choice, check_count
from ...data.sequences import checked_frames, join_frames, split_frames, unpad
from ...distributions.padded_frames import PaddedFrames, join
from ...inference.light import share_all, shared
from ...inference.particles import given_values
from ...nets.bodies import mlp
from ...nets.scaling import ColumnScaling
from ...objectives.objective import Objective
from ..shared.chain_details import Step
from ..shared.evidence import Evidence
from ..shared.examples import seeded, sequences
from ..shared.frames import check_frames, check_width, mean_frames, per_frame, presence_columns, row_shape
from ..shared.latent import LatentVariableModel, bound_objective
from ..shared.rows import check_binary
from ._particle_gibbs import Path, particle_gibbs

_FLOOR = 1e-3
"""The smallest standard deviation of a latent or of a value; without it a density could grow without bound."""


class VariationalRNN(LatentVariableModel):
    r"""Variational recurrent network (Chung et al. 2015): a VAE in every frame, conditioned on the frames before.

    $z_t \mid h_{t-1} \sim \mathcal N(\mu_0(h_{t-1}), \mathrm{diag}\,\sigma_0^2(h_{t-1}))$,
    $x_t \sim p(x_t \mid \varphi_z(z_t), h_{t-1})$ and $h_t = \mathrm{GRU}(\varphi_x(x_t), \varphi_z(z_t); h_{t-1})$ with
    $h_0 = 0$; the guide is $q(z_t \mid \varphi_x(x_t), h_{t-1})$, Gaussian too. Trained on
    $\mathcal L(q) = E_q \sum_t [\log p(x_t \mid z_{\le t}, x_{<t}) - \mathrm{KL}(q(z_t) \| p(z_t))] \le \log p(x)$ (20.76-78),
    in nats per sequence.

    A row is a padded sequence (``dgm.data.pad``): T frames of D values and of a column that is 1 where the frame exists.
    Rows may have any number of frames. Lengths are given, not modelled: neither latents nor values of padding have a
    log-probability.

    ``model(x)`` has a site for every frame's latents, ``"z1"`` to ``"zT"``, each ``rows x latent``, up to the longest
    sequence of ``x``, and the site ``"x"``. One site per frame lets prior and guide condition on the draws before it, with any
    ELBO and any number of particles. ``model(None, n)`` draws frame by frame; its site ``"x"`` then holds the draw,
    and conditioning that site on other frames has probability 0: give them as ``x`` instead.

    Args:
        visible: the number of columns of the data; ``sample`` draws sequences of as many columns, which is
            ``visible / (features + 1)`` frames.
        features: the number of values of a frame, D.
        latent: the number of latent variables of a frame.
        hidden: the number of units of the recurrent state and of every network's hidden layer.
        output: ``"binary"`` for frames of bits, ``"gaussian"`` (with a standard deviation from the network) for real
            ones.
        activation: the networks' non-linearity: tanh, relu, silu or softplus.

    Attributes:
        frames: the number of frames of a sequence that ``sample`` draws.
        describe: $\varphi_x$, the network of frames.
        code: $\varphi_z$, the network of latents.
        prior_network, decoder, encoder: the networks of $p(z_t)$, $p(x_t)$ and $q(z_t)$, whose outputs are means or logits,
            and then standard deviations before softplus.
        cell: the recurrence.

    Raises:
        ValueError: a number of units below one; ``visible`` no multiple of ``features + 1``; an unknown output or
            activation.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rows = dgm.data.pad([torch.ones(3, 2), torch.zeros(5, 2)])
        >>> vrnn = dgm.VariationalRNN(rows.shape[1], features=2, latent=1, hidden=4)
        >>> dgm.log_weights(vrnn.model, vrnn.guide, rows, particles=7).shape, vrnn.sample(4, length=6).shape
        (torch.Size([7, 2]), torch.Size([4, 18]))
    """

    guide_needs_rows = True

    rounds_safely = True

    def __init__(
        self,
        visible: int,
        features: int,
        latent: int = 16,
        hidden: int = 64,
        output: str = "binary",
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        check_choice("output", output, ("binary", "gaussian"))
        check_frames(visible, features, latent=latent, hidden=hidden)
        self.visible, self.features, self.latent, self.hidden = visible, features, latent, hidden
        self.output, self.activation = output, activation
        self.frames = visible // (features + 1)
        outputs = features if output == "binary" else 2 * features
        self.describe = mlp((features, hidden, hidden), activation)
        self.code = mlp((latent, hidden, hidden), activation)
        self.prior_network = mlp((hidden, hidden, 2 * latent), activation)
        self.encoder = mlp((2 * hidden, hidden, 2 * latent), activation)
        self.decoder = mlp((2 * hidden, hidden, outputs), activation)
        self.cell = nn.GRUCell(2 * hidden, hidden)
        self.scaling = ColumnScaling(features) if output == "gaussian" else None

    def prior(self, h: Tensor) -> dist.TorchDistribution:
        """$p(z_t | h)$: ``batch_shape`` of the states, ``event_shape`` (latent,)."""
        return _normal(self.prior_network(h)).to_event(1)

    def encode(self, described: Tensor, h: Tensor) -> dist.TorchDistribution:
        """$q(z_t | x_t, h)$ for frames that went through ``describe``; shapes as for ``prior``."""
        return _normal(self.encoder(join(described, h))).to_event(1)

    def observe(self, output: Tensor) -> dist.TorchDistribution:
        """$p(x_t | z_t, h)$, value by value, from the decoder's output: ``batch_shape`` ``... x features``."""
        if self.scaling is None:
            return dist.Bernoulli(logits=output)
        normal = _normal(output)
        return dist.Normal(self.scaling.back(normal.loc), self.scaling.scale * normal.scale)

    def see(self, values: Tensor) -> Tensor:
        """``describe`` of values in the data's units: ``... x features`` to ``... x hidden``."""
        return self.describe(values if self.scaling is None else self.scaling(values))

    def advance(self, described: Tensor, code: Tensor, h: Tensor) -> Tensor:
        """$h_t$ from the frame and the latents, both through their networks, and $h_{t-1}$: ``batch_shape x hidden``."""
        inputs = join(described, code)
        h = h.expand(*inputs.shape[:-1], self.hidden)
        return self.cell(inputs.flatten(0, -2), h.flatten(0, -2)).unflatten(0, inputs.shape[:-1])

    def start(self) -> Tensor:
        """$h_0$, ``hidden``."""
        return self.cell.weight_hh.new_zeros(self.hidden)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values up to the end of the longest sequence, ``describe`` of them, and booleans that say which frames exist."""
        values, present = checked_frames(x, self.features)
        values = values[..., : int(present.sum(-1).max()), :]
        return values, self.see(values), present

    def generate(self, x: Tensor | None = None, size: int | None = None, length: int | None = None) -> Tensor:
        """The generative program's body; ``length`` is the number of frames to draw where there is no ``x``."""
        h, inputs, drawn = shared("start", (), self.start), [], []
        # Under poutine.uncondition the frames are drawn as well, of the lengths of x.
        draw = x is None or any(isinstance(handler, UnconditionMessenger) for handler in _PYRO_STACK)
        if x is None:
            steps, present = length or self.frames, h.new_ones(length or self.frames) > 0
        else:
            values, described, present = shared("split", (x,), lambda: self._split(x))
            steps = values.shape[-2]
        with self.data_plate(x, size):
            for t in range(steps):
                with _where(present[..., t]):
                    z = pyro.sample(f"z{t + 1}", self._frame_prior(t, h))
                if draw:
                    inputs.append(join(code := self.code(z), h))
                    drawn.append(self.observe(self.decoder(inputs[-1])).sample())
                    h = self.advance(self.see(drawn[-1]), code, h)
                else:
                    code, after = self._frame(t, z, described, h)
                    inputs.append(join(code, h))
                    h = after
            frames = PaddedFrames(self.observe(self.decoder(torch.stack(inputs, -2))).to_event(1), present)
            if not draw:
                return pyro.sample("x", frames, obs=x)
            row = frames.rows(torch.stack(drawn, -2))
            return pyro.sample("x", dist.Delta(row, log_density=frames.log_prob(row), event_dim=1), obs=x)

    def infer(self, x: Tensor, size: int | None = None) -> None:
        h = shared("start", (), self.start)
        values, described, present = shared("split", (x,), lambda: self._split(x))
        states = []
        with self.data_plate(x, size):
            for t in range(values.shape[-2]):
                states.append(h)
                with _where(present[..., t]):
                    z = pyro.sample(f"z{t + 1}", self.encode(described[..., t, :], h))
                _, h = self._frame(t, z, described, h)
        names, inputs = [("prior", t) for t in range(len(states))], [(state,) for state in states]
        share_all(names, inputs, lambda: self.prior_network(torch.stack(torch.broadcast_tensors(*states))))

    def _frame_prior(self, t: int, h: Tensor) -> dist.TorchDistribution:
        """``prior`` before a frame, whose network the guide may have run for all frames at once."""
        return _normal(shared(("prior", t), (h,), lambda: self.prior_network(h))).to_event(1)

    def _frame(self, t: int, z: Tensor, described: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The code of a frame's latents and the state after the frame, which guide and model share."""

        def computed() -> tuple[Tensor, Tensor]:
            code = self.code(z)
            return code, self.advance(described[..., t, :], code, h)

        return shared(("frame", t), (z, described, h), computed)

    def sample(self, n: int, length: int | None = None) -> Tensor:
        """Draw ``n`` independent sequences, frame by frame, as rows without padding.

        Args:
            n: the number of sequences.
            length: their number of frames; by default ``frames``.

        Raises:
            ValueError: a length below one.
        """
        if length is not None:
            length = check_count("length", length, what="the frames of a sequence")
        with torch.no_grad():
            return self.model(None, n, length)

    def sample_means(self, n: int) -> Tensor:
        """Refused: the law of a frame is one given the frames that were drawn before it.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no means of rows given latents alone, since frames depend on the drawn ones before; "
            "use sample"
        )

    def given_columns(self) -> Tensor:
        """The columns that say which frames exist."""
        return presence_columns(self.visible, self.features)

    def evidence_given(self) -> str:
        return "the lengths"

    def density_columns(self, x: Tensor) -> Tensor:
        """The values of the frames that all rows have."""
        values, present = split_frames(x, self.features)
        everywhere = present.all(0).view(1, -1, 1).expand_as(values[:1]).to(x)
        return join_frames(everywhere, torch.zeros_like(present[:1]))[0] > 0

    def evidence(self, x: Tensor, method: str | None = None, *, rows: int = 100_000, **options: Any) -> Evidence:
        """A lower bound of every sequence's log-likelihood (20.79), in nats per sequence.

        The details have ``frames``, the mean number of frames of a sequence, and ``nats_per_frame``, over all frames.

        Args:
            x: padded rows.
            method: ``"importance"``, the default, or ``"ais"``.
            rows: frames of one pass; it bounds the memory and changes nothing else.
            options: as for other models, with 500 ``particles`` by default.
        """
        lengths = split_frames(x, self.features)[1].sum(-1)
        rows = max(rows // int(lengths.max()), 1)
        if method in (None, "importance"):
            options.setdefault("particles", 500)
        return per_frame(super().evidence(x, method, rows=rows, **options), x, self.features)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The ELBO on the validation rows, in nats per sequence and in nats per frame."""
        figures = super().progress(train, valid)
        return {**figures, "valid_elbo_per_frame": figures["valid_elbo"] / mean_frames(valid, self.features)}

    def impute(self, x: Tensor, known: Tensor, draws: int = 500, particles: int = 16) -> Tensor:
        """Means of the unknown values given the known ones, earlier and later, by particle Gibbs (Andrieu et al. 2010).

        Every draw comes from a particle filter per row that keeps the path before as one of its particles, which leaves the
        law of latents and unknown values given the known ones exactly invariant. As many draws before are dropped. Which
        frames exist is read from ``x``, whatever ``known`` says, and padding stays. In long sequences paths far from the
        end move slowly: more particles help.

        Args:
            x: padded rows; unknown values are not read.
            known: booleans, ``columns`` or ``rows x columns``.
            draws: the number of draws.
            particles: the particles of every filter.

        Raises:
            ValueError: fewer than two draws or particles.
        """
        return self._imputed(x, known, draws, particles=check_count("particles", particles, 2))[0]

    def shape_of(self, x: Tensor) -> torch.Size:
        return row_shape(x, self.visible)

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int, particles: int = 16) -> Iterator[Step]:
        """Yield rows of the chains of ``impute``."""
        values, is_known, present = given_values(x, known.expand(x.shape), self.features)
        path: Path | None = None
        while True:
            path = particle_gibbs(self, values, is_known, present, path, particles)
            yield Step(join_frames(torch.where(is_known, values, path.x), present))

    def initialise(self, x: Tensor) -> None:
        """Start the decoder's output bias at the values' means and standard deviations, over the frames that exist."""
        with torch.no_grad():
            values, present = split_frames(x, self.features)
            frames = values[present]
            if self.scaling is not None:
                self.scaling.fit(frames)
                frames = self.scaling(frames)
            bias, mean = cast(nn.Linear, self.decoder[-1]).bias, frames.mean(0)
            if self.output == "binary":
                bias.copy_(torch.logit(mean, eps=1e-2))
            else:
                scale = frames.std(0, correction=0).clamp_min(1e-2) - _FLOOR
                bias.copy_(torch.cat([mean, scale.expm1().log()]))

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
        check_width(x, self.visible, "VariationalRNN")
        if self.output == "binary":
            check_binary(x, "VariationalRNN with binary output", "choose output='gaussian' (--set output=gaussian)")
        unpad(x, self.features)

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "features": self.features,
            "latent": self.latent,
            "hidden": self.hidden,
            "output": self.output,
            "activation": self.activation,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(12, features=2, latent=1, hidden=4), sequences)


def _where(present: Tensor) -> Any:
    """Count log-probabilities where ``present`` alone."""
    return poutine.mask(mask=cast(Any, present))


def _normal(output: Tensor) -> dist.Normal:
    location, scale = output.chunk(2, -1)
    return dist.Normal(location, softplus(scale) + _FLOOR)
