"""Autoregressive networks, their conditionals and the distributions made of them (sections 20.10.7-10)."""

from .completion import Completion
from .conditionals import check_known, complete
from .distribution import AutoregressiveDistribution
from .ensemble import OrderEnsemble
from .masked import MaskedLinear, MaskedNetwork
from .network import Network, check_order, plain_order, step_by_step
from .outputs import DECLARE, Output, output

__all__ = [
    "DECLARE", "AutoregressiveDistribution", "Completion", "MaskedLinear", "MaskedNetwork", "Network", "OrderEnsemble", "Output",
    "check_known", "check_order", "complete", "output", "plain_order", "step_by_step",
]  # fmt: skip
