"""Torch's optimisers, by a shorter way to the same numbers where nothing but their plain step is asked for.

Around its arithmetic a step of ``torch.optim`` opens a profiler's record, looks for hooks, compilers and devices, and sorts all
tensors anew: some 0.3 ms, as long as the arithmetic of half a million weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

FUSED_ON = ("cpu", "cuda")
"""Types of devices on which Adam's step is one loop over all numbers, in a quarter of the time."""

LOOPS = frozenset({"capturable", "differentiable", "foreach", "fused"})
"""Options that choose among torch's loops."""


class _Short(Optimizer, ABC):
    """An optimiser that tries ``_short_step`` first; mixed into one of torch's."""

    def step(self, closure: Any = None) -> Any:
        if closure is None and not self._is_observed():
            with torch.no_grad():
                if all(self._takes(group) for group in self.param_groups):
                    for group in self.param_groups:
                        self._short_step(group)
                    return None
        step: Any = super().step
        # Torch gives a class's step its hooks when the first of its own instances is made.
        return step(closure) if hasattr(step, "hooked") else Optimizer.profile_hook_step(step.__func__)(self, closure)

    step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it, as it wraps its own

    def zero_grad(self, set_to_none: bool = True) -> None:
        if not set_to_none:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        return None

    def _is_observed(self) -> bool:
        """Whether hooks or a profiler want to see the steps, or a scaler of gradients has something to say about this one."""
        hooks = torch_optimizer._global_optimizer_pre_hooks, torch_optimizer._global_optimizer_post_hooks
        own = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        scaled = getattr(self, "grad_scale", None) is not None or getattr(self, "found_inf", None) is not None
        return any(map(bool, (*hooks, *own))) or scaled or torch.autograd._profiler_enabled()

    @abstractmethod
    def _takes(self, group: dict[str, Any]) -> bool:
        """Whether the short step knows all options of a group."""

    @abstractmethod
    def _short_step(self, group: dict[str, Any]) -> None:
        """Move a group's parameters along their gradients."""


class SGD(_Short, torch.optim.SGD):
    """Torch's SGD."""

    def _takes(self, group: dict[str, Any]) -> bool:
        plain = not any(group[option] for option in ("momentum", "maximize", "foreach", "fused", "differentiable"))
        # Elsewhere torch steps all parameters at once.
        return plain and all(p.is_cpu and (p.grad is None or not p.grad.is_sparse) for p in group["params"])

    def _short_step(self, group: dict[str, Any]) -> None:
        decay, rate = group["weight_decay"], group["lr"]
        for parameter in group["params"]:
            if parameter.grad is not None:
                gradient = parameter.grad.add(parameter, alpha=decay) if decay else parameter.grad
                parameter.add_(gradient, alpha=-rate)


class _FusedAdam(_Short):
    """The fused loop of torch's two kinds of Adam, on the processor."""

    _loop: Callable[..., None] | None
    """The loop; None in a version of torch without it."""

    _decoupled: bool
    """Whether the loop's weight decay is decoupled; newer versions of torch let a group say so, too."""

    def _takes(self, group: dict[str, Any]) -> bool:
        plain = group["fused"] and not any(group[option] for option in ("amsgrad", "maximize", "differentiable"))
        same = group.get("decoupled_weight_decay", self._decoupled) == self._decoupled
        return bool(plain and same and self._loop is not None) and all(
            p.grad is None or (len(self.state[p]) == 3 and p.is_cpu and p.grad.dtype == p.dtype)
            for p in group["params"]
        )

    def _short_step(self, group: dict[str, Any]) -> None:
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_dtype.setdefault(parameter.dtype, []).append(parameter)
        beta1, beta2 = group["betas"]
        options = {"lr": group["lr"], "beta1": beta1, "beta2": beta2}
        options |= {"weight_decay": group["weight_decay"], "eps": group["eps"], "amsgrad": False, "maximize": False}
        for parameters in by_dtype.values():
            states = [self.state[parameter] for parameter in parameters]
            means, squares, steps = ([s[name] for s in states] for name in ("exp_avg", "exp_avg_sq", "step"))
            torch._foreach_add_(steps, 1)
            gradients = [parameter.grad for parameter in parameters]
            loop: Any = self._loop
            loop(parameters, gradients, means, squares, [], steps, grad_scale=None, found_inf=None, **options)


class Adam(_FusedAdam, torch.optim.Adam):
    """Torch's Adam."""

    _loop, _decoupled = getattr(torch, "_fused_adam_", None), False


class AdamW(_FusedAdam, torch.optim.AdamW):
    """Torch's Adam with decoupled weight decay."""

    _loop, _decoupled = getattr(torch, "_fused_adamw_", None), True
