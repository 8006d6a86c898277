"""Several processes that train one model, as torchrun starts them; or just one.

Small things (flags, counts, objects) travel between the processors by gloo, so that asking does
not wait for the GPU; tensors travel where they lie, on a GPU by NCCL.

R processes, N rows, N' rows of all processes
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from atas_deploy.core.errors import ConfigError, TrainingError

T = TypeVar("T")
_LOST = ("Connection closed by peer", "Connection reset", "Broken pipe", "timed out", "Timed out")


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a run, seen from one of them.

    Every method but `wrap` of a single process is a collective: all processes call it, in the same
    order, or all wait for ever.

    Attributes:
        rank: number of this process, from 0; 0 alone writes files and prints.
        world: how many there are, R.
        device: what this process computes on.
    """

    rank: int
    world: int
    device: torch.device

    def wrap(self, module: nn.Module) -> nn.Module:
        """Give all processes rank 0's weights, and later the mean of all gradients.

        Call it on the module's device, once it is settled which parameters are trained; each of
        them must take part in each loss. A single process gets the module itself.

        Raises:
            TrainingError: another process has ended.
        """
        if self.world == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        with losing_others():
            return DistributedDataParallel(module, device_ids=devices)

    def gather(self, tensor: Tensor) -> Tensor:
        """Rows of all processes in the order of ranks, as constants.

        Args:
            tensor: (N, ...), N may differ between the processes.

        Returns:
            (N', ...).

        Raises:
            TrainingError: another process has ended.
        """
        if self.world == 1:
            return tensor.detach()
        return _gather_rows(tensor.detach(), self._row_counts(tensor))

    def gather_with_gradient(self, tensor: Tensor) -> Tensor:
        """Rows of all processes; the gradient of a row is the sum over all processes' losses.

        With DDP's mean of gradients, losses L_1, ..., L_R together train the mean of them.

        Args:
            tensor: (N, ...), N may differ between the processes.

        Returns:
            (N', ...).

        Raises:
            TrainingError: another process has ended.
        """
        if self.world == 1:
            return tensor
        gathered: Tensor = _GatherRows.apply(tensor, self._row_counts(tensor), self.rank)
        return gathered

    def start(self, count: int) -> int:
        """Where this process's rows begin among the gathered ones.

        Args:
            count: its number of rows, N.
        """
        return sum(self.objects(count)[: self.rank])

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.largest(int(flag)))

    def largest(self, number: int) -> int:
        """The greatest of the processes' integers."""
        return self._reduce(number, dist.ReduceOp.MAX)

    def total(self, number: int) -> int:
        """The sum of the processes' integers."""
        return self._reduce(number, dist.ReduceOp.SUM)

    def objects(self, value: T) -> list[T]:
        """The values of all processes, in the order of ranks; anything that can be pickled.

        Raises:
            TrainingError: another process has ended.
        """
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with losing_others():
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.total(0)

    def _reduce(self, number: int, how: Any) -> int:
        if self.world == 1:
            return number
        result = torch.tensor(number)
        with losing_others():
            dist.all_reduce(result, how)
        return int(result)

    def _row_counts(self, tensor: Tensor) -> list[int]:
        return self.objects(len(tensor))


SINGLE = Group(0, 1, torch.device("cpu"))
"""A single process; its device is not asked for."""


def join(device: torch.device) -> Group:
    """Meet the other processes that torchrun has started.

    Args:
        device: "cpu", or "cuda" for the GPU of the process's number on its machine. A process that
            torchrun has not started, or started alone, keeps whatever it asks for.

    Raises:
        ConfigError: the device does not suit several processes, or torchrun's variables are
            incomplete or no numbers.
    """
    world, _ = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if world == 1:
        return Group(0, 1, device)
    device = _own_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as exc:
        raise ConfigError(
            f"WORLD_SIZE is {world}, but the processes cannot meet ({exc}); start them by torchrun."
        ) from exc
    return Group(dist.get_rank(), world, device)


def leave() -> None:
    """Part from the other processes, which do so, too; nothing happens if none were met.

    Not for a process that fails: parting might wait for those that wait for it. It just ends, which
    the others notice.
    """
    if dist.is_initialized():
        dist.destroy_process_group()


def keeps_local(module: nn.Module) -> AbstractContextManager[None]:
    """Inside, backward passes through a module of `Group.wrap` add up gradients of their own."""
    if isinstance(module, DistributedDataParallel):
        local: AbstractContextManager[None] = module.no_sync()
        return local
    return nullcontext()


@contextmanager
def losing_others() -> Iterator[None]:
    """Say in one sentence that another process has ended, where torch says how it noticed."""
    try:
        yield
    except RuntimeError as exc:
        if not any(sign in str(exc) for sign in _LOST):
            raise
        raise TrainingError(
            "Another process of this run has ended, so this one stops, too; the other's message "
            "says why."
        ) from exc


def _number(name: str, default: int) -> int:
    """One of torchrun's variables.

    Raises:
        ConfigError: it is no whole number.
    """
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f'{name} is "{text}", which is no whole number; start by torchrun, or unset it.'
        ) from None


def _own_device(device: torch.device) -> torch.device:
    """The device of this process among those of its machine."""
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise ConfigError(
            f'Device "{device}" does not suit several processes; give "cuda", and each takes its '
            'own GPU, or "cpu".'
        )
    local, count = _number("LOCAL_RANK", 0), torch.cuda.device_count()
    if local >= count:
        raise ConfigError(
            f"Process {local} of this machine has no GPU of its own: PyTorch sees {count}; start "
            f"{max(1, count)} processes a machine at most."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


class _GatherRows(torch.autograd.Function):
    """Concatenation over processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, counts: Sequence[int], rank: int) -> Tensor:
        ctx.start, ctx.count = sum(counts[:rank]), counts[rank]
        return _gather_rows(tensor, counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous().clone()
        with losing_others():
            dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.count], None, None


def _gather_rows(tensor: Tensor, counts: Sequence[int]) -> Tensor:
    """Concatenate; all processes send as many rows as the one that has most."""
    padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in counts]
    with losing_others():
        dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
