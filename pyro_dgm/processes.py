"""Several processes that work as one: who takes part, which share of the work each takes, and how shares are put together.

Everything here is the identity in a single process, so that code which shares its work has no branches. All processes
must call these functions in the same order; what only one of them does goes into ``with alone():``.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

_ALONE: contextvars.ContextVar[bool] = contextvars.ContextVar("alone", default=False)


def world() -> int:
    """The number of processes that work together: 1 unless a process group is up."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _ALONE.get() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


def _launcher() -> tuple[int, int]:
    """The number of this process and the number of all, as the launcher (torchrun) that started them says; else 0 and 1.

    Raises:
        ValueError: the environment variables of a launcher make no sense.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return 0, 1
    world = _variable("WORLD_SIZE", 1)
    rank = _variable("RANK", 0, world - 1)
    if "LOCAL_RANK" in os.environ:
        _variable("LOCAL_RANK", 0)
    if "MASTER_PORT" in os.environ:
        _variable("MASTER_PORT", 0, 65535)
    return rank, world


def _variable(name: str, least: int, most: int | None = None) -> int:
    """A whole number that a launcher has left in the environment."""
    text = os.environ[name]
    if not text.strip().isdecimal() or not least <= int(text) <= (int(text) if most is None else most):
        expected = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(
            f"the environment variable {name} is {text!r}; expected a whole number {expected}, as torchrun sets it. Without a "
            "launcher, unset RANK and WORLD_SIZE"
        )
    return int(text)


def launched() -> int:
    """The number of processes once the group is up: those of the launcher (torchrun) that started this one, else 1.

    Raises:
        ValueError: the environment variables of a launcher make no sense.
    """
    return world() if world() > 1 or _ALONE.get() else _launcher()[1]


def several() -> bool:
    """Whether a launcher has started several processes; False where what it says makes no sense."""
    try:
        return launched() > 1
    except ValueError:
        return False


def first() -> bool:
    """Whether this process is the one that reports and writes; known before the group is up."""
    return _launcher()[0] == 0 if launched() > world() else rank() == 0


def device(name: str | torch.device) -> torch.device:
    """The device of this process: where several processes use GPUs, the GPU with this process's number on this machine."""
    place = torch.device(name)
    if launched() == 1 or place.type != "cuda":
        return place
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", _launcher()[0])))


MEETING = 60.0
"""Seconds in which the processes of a launcher must have found each other."""


def join(name: str | torch.device = "cpu", meeting: str | os.PathLike[str] | None = None) -> None:
    """Start the process group (NCCL on CUDA devices, else gloo) where a launcher asks for one and none is up.

    Args:
        name: the device that the processes will use.
        meeting: a file that does not exist yet, by which the processes of one machine find each other; by default they meet at
            ``MASTER_ADDR`` and ``MASTER_PORT``.

    Raises:
        ConnectionError: they do not find each other in time.
    """
    if launched() == world():
        return
    place = device(name)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    rank, size = _launcher()
    try:
        if meeting is None:
            store, *_ = next(dist.rendezvous("env://", timeout=timedelta(seconds=MEETING)))
        else:
            store = dist.FileStore(os.fspath(meeting), size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        raise ConnectionError(f"the {size} processes do not find each other ({_line(error)})") from None


def leave() -> None:
    """Shut the process group down, if one is up."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def end(status: int) -> NoReturn:
    """End this process at once, without the interpreter's farewell.

    Threads of torch's process group may still be at work. Where they ask for the interpreter while it is being taken down, the
    process is aborted (signal 6) although all is done.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A block in which this process does all the work itself and waits for no other."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def share(n: int, name: str = "n") -> int:
    """The number of things, out of n, that this process takes.

    Raises:
        ValueError: there are fewer things than processes.

    Example:
        >>> share(100, "chains")
        100
    """
    if world() == 1:
        return n
    if n < world():
        raise ValueError(f"{name} got {n} for {world()} processes that share them; expected at least one for each")
    return n // world() + (rank() < n % world())


def part(tensor: Tensor, dim: int = 0) -> Tensor:
    """This process's share along a dimension; ``gather`` puts the shares together in the same order."""
    shares = [tensor.shape[dim] // world() + (r < tensor.shape[dim] % world()) for r in range(rank() + 1)]
    return tensor.narrow(dim, sum(shares[:-1]), shares[-1])


def gather(tensor: Tensor, dim: int = 0) -> Tensor:
    """The concatenation of all processes' tensors, the same in every process; they may differ in length along ``dim``."""
    if world() == 1:
        return tensor
    moved = tensor.detach().movedim(dim, 0).contiguous()
    raw = moved.view(torch.uint8) if moved.dtype == torch.bool else moved
    length = torch.tensor([len(raw)], device=raw.device)
    lengths = [torch.empty_like(length) for _ in range(world())]
    dist.all_gather(lengths, length)
    longest = max(int(n) for n in lengths)
    padded = torch.cat([raw, raw.new_zeros(longest - len(raw), *raw.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(world())]
    dist.all_gather(parts, padded)
    whole = torch.cat([piece[: int(n)] for piece, n in zip(parts, lengths, strict=True)])
    return whole.view(tensor.dtype).movedim(0, dim)


def joined(tensor: Tensor) -> Tensor:
    """All processes' rows as ``gather`` has them, where this process's own carry their gradient."""
    if world() == 1:
        return tensor
    lengths = gather(torch.tensor([len(tensor)], device=tensor.device)).tolist()
    whole, first = gather(tensor), sum(lengths[: rank()])
    return torch.cat([whole[:first], tensor, whole[first + len(tensor) :]])


def total(value: Tensor) -> Tensor:
    """The sum of all processes' tensors of one shape, with gradients to every process's own."""
    return value if world() == 1 else _Total.apply(value)


class _Total(torch.autograd.Function):
    """A sum over processes; what one process's value does to the losses of all is a sum over them too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        summed = value.detach().clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        summed = grads[0].clone()
        dist.all_reduce(summed)
        return summed


def mean(value: Tensor, rows: int) -> Tensor:
    """The mean over the rows of all processes, from each process's mean over its own rows."""
    if world() == 1:
        return value
    total = torch.cat([value.detach().flatten() * rows, value.new_tensor([rows])])
    dist.all_reduce(total)
    return (total[:-1] / total[-1]).view_as(value)


def collect(content: Any) -> list[Any]:
    """Every process's object, in order, at the first process; an empty list at the others."""
    if world() == 1:
        return [content]
    contents: list[Any] | None = [None] * world() if rank() == 0 else None
    dist.gather_object(content, contents)
    return contents or []


def from_first(content: Any) -> Any:
    """The first process's object, in every process."""
    if world() == 1:
        return content
    box = [content]
    dist.broadcast_object_list(box)
    return box[0]


def agree(module: nn.Module) -> None:
    """Give all processes the first one's parameters and buffers."""
    if world() > 1:
        module.load_state_dict(from_first({name: value.cpu() for name, value in module.state_dict().items()}))


def wait() -> None:
    """Wait until all processes have come this far."""
    if world() > 1:
        dist.barrier()


def own_seed(seed: int) -> int:
    """The seed of this process's random stream; the first process has ``seed`` itself."""
    if rank() == 0:
        return seed
    # torch's CPU generator reads only the lowest 32 bits of its seed.
    return int.from_bytes(hashlib.sha256(repr(("process", seed, rank())).encode()).digest()[:4], "big")


@contextlib.contextmanager
def own_stream() -> Iterator[None]:
    """A block in which every process draws from a stream of its own, even where all were seeded alike."""
    with _stream(own_seed):
        yield


@contextlib.contextmanager
def one_stream() -> Iterator[None]:
    """A block in which all processes draw the same numbers, even where they were seeded apart."""
    with _stream(lambda word: word):
        yield


@contextlib.contextmanager
def _stream(seed: Callable[[int], int]) -> Iterator[None]:
    """A block whose random numbers start from a seed made of a word that the first process draws."""
    if world() == 1:
        yield
        return
    word = from_first(int(torch.randint(2**62, ())))
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        torch.manual_seed(seed(word))
        yield


@contextlib.contextmanager
def drawing(n: int) -> Iterator[int]:
    """A block in which this process draws its share of n, from a stream of its own, and ``gather`` makes them n again.

    Where n is smaller than the number of processes, every process draws all n from one stream, and ``part`` and ``gather``
    are the identity.

    Example:
        >>> with drawing(5) as mine:
        ...     x = gather(torch.rand(mine))
        >>> len(x)
        5
    """
    if n >= world():
        with own_stream():
            yield share(n)
    else:
        with one_stream(), alone():
            yield n


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean gradient of all processes; a parameter without a gradient in every process keeps none."""
    if world() == 1:
        return
    chosen = list(dict.fromkeys(parameters))
    has_gradient = chosen[0].new_tensor([parameter.grad is not None for parameter in chosen])
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), has_gradient])
    dist.all_reduce(flat)
    *sums, counts = flat.split([*(parameter.numel() for parameter in chosen), len(chosen)])
    for parameter, total, count in zip(chosen, sums, counts.tolist(), strict=True):
        parameter.grad = (total / world()).view_as(parameter).to(parameter.dtype) if count else None


@contextlib.contextmanager
def one_message() -> Iterator[None]:
    """A block in which the loss of another process is reported in one line.

    Raises:
        ConnectionError: another process stopped.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)
        if world() == 1 or not lost:
            raise
        raise ConnectionError(
            f"process {rank() + 1} of {world()} stopped because another one did; see that one's message ({_line(error)})"
        ) from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def speaks() -> bool:
    """Whether this process is the first to ask, and so the one that reports what went wrong; True where that is unknown."""
    try:
        if launched() == 1:
            return True
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        with socket.create_connection((address, port), timeout=1):
            pass  # where nobody listens, a store would ask again and again
        store = dist.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=2))
        return store.add("pyro_dgm speaks", 1) == 1
    except (KeyError, ValueError, OSError, RuntimeError):
        return True
