"""Several processes that train one model; each test has two of them, joined by gloo."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.core.errors import ConfigError, TrainingError
from atas_deploy.training.distributed import SINGLE, Group, join, keeps_local

Call = Callable[..., list[Any]]
CPU = torch.device("cpu")


def rows(rank: int) -> Tensor:
    """Three rows in rank 0 and one in rank 1."""
    return torch.arange(8.0).reshape(4, 2)[:3] if rank == 0 else torch.tensor([[6.0, 7.0]])


def gather(group: Group) -> Any:
    """Rows, where they begin, and none at all from rank 0."""
    own = rows(group.rank)
    fewer = group.gather(own[: group.rank])
    return group.gather(own), group.start(len(own)), fewer


def test_rows_come_in_the_order_of_ranks(in_two_processes: Call) -> None:
    """The processes may have different numbers of rows, one even none."""
    for rank, (gathered, start, fewer) in enumerate(in_two_processes(gather)):
        assert torch.equal(gathered, torch.arange(8.0).reshape(4, 2))
        assert start == 3 * rank
        assert torch.equal(fewer, rows(1))


def agree(group: Group) -> Any:
    """Flags, numbers and objects that differ between the ranks."""
    flags = group.any(group.rank == 1), group.any(False)
    return (
        flags,
        group.largest(5 - group.rank),
        group.total(3 + group.rank),
        group.objects(str(group.rank)),
    )


def test_processes_agree(in_two_processes: Call) -> None:
    """All get the same answer."""
    assert in_two_processes(agree) == [((True, False), 5, 7, ["0", "1"])] * 2


def gradients_of_rows(group: Group) -> Tensor:
    """Gradient of a rank's rows under a loss that differs between the ranks."""
    own = rows(group.rank).requires_grad_()
    everything = group.gather_with_gradient(own)
    ((group.rank + 1) * everything.square()[:, 0].prod() + everything.sum()).backward()
    assert own.grad is not None
    return own.grad


def test_gradients_of_gathered_rows_add_up_over_processes(in_two_processes: Call) -> None:
    """As if one process had computed the sum of both losses."""
    everything = torch.arange(8.0).reshape(4, 2).requires_grad_()
    (3 * everything.square()[:, 0].prod() + 2 * everything.sum()).backward()
    torch.testing.assert_close(torch.cat(in_two_processes(gradients_of_rows)), everything.grad)


def linear(seed: int) -> nn.Linear:
    """A seeded layer."""
    torch.manual_seed(seed)
    return nn.Linear(2, 2)


def wrapped(group: Group) -> Any:
    """Weights and gradients of a wrapped layer that begins otherwise in each rank."""
    module = group.wrap(linear(group.rank))
    with keeps_local(module):
        module(rows(group.rank)).sum().backward()
    layer = module.module
    local = layer.weight.grad.clone()
    module(rows(group.rank)).sum().backward()
    return layer.weight.detach(), local, layer.weight.grad


def test_wrapped_modules_share_weights_and_mean_gradients(in_two_processes: Call) -> None:
    """Rank 0's weights, gradients kept local where asked for, and their mean afterwards."""
    zero, one = in_two_processes(wrapped)
    local = [torch.stack([rows(rank).sum(0)] * 2) for rank in (0, 1)]
    assert torch.equal(zero[0], linear(0).weight)
    assert torch.equal(one[0], linear(0).weight)
    torch.testing.assert_close([zero[1], one[1]], local)
    torch.testing.assert_close([zero[2], one[2]], [local[0] + local[1]] * 2)


def against_keys(group: Group, module: nn.Module, images: Tensor) -> Tensor:
    """InfoNCE of a rank's rows against constant keys of all ranks; its share of the mean."""
    queries = F.normalize(module(images), dim=-1)
    keys = group.gather(F.normalize(images, dim=-1))
    targets = group.start(len(images)) + torch.arange(len(images))
    loss = F.cross_entropy(10 * queries @ keys.T, targets, reduction="sum")
    return loss * group.world / len(keys)


def descend(group: Group) -> Tensor:
    """The gradient of `against_keys`."""
    module = group.wrap(linear(0))
    against_keys(group, module, rows(group.rank) + 1).backward()
    return module.module.weight.grad


def test_gathered_keys_give_the_gradient_of_one_process(in_two_processes: Call) -> None:
    """Both ranks' gradient is that of one process with the images of both."""
    module = linear(0)
    against_keys(SINGLE, module, torch.cat([rows(0), rows(1)]) + 1).backward()
    torch.testing.assert_close(in_two_processes(descend), [module.weight.grad] * 2)


def end_early(group: Group) -> None:
    """Rank 1 dies; rank 0 waits for it."""
    if group.rank == 1:
        raise ConfigError("Something is wrong here.")
    group.any(False)


def test_a_process_that_ends_stops_the_other(in_two_processes: Call) -> None:
    """The other does not hang, and says in a sentence of ours why it stops."""
    zero, one = in_two_processes(end_early)
    assert isinstance(one, ConfigError)
    assert isinstance(zero, TrainingError)
    assert "Another process" in str(zero)


def test_a_process_alone_is_its_own_group() -> None:
    """Nothing is sent anywhere, and nothing is wrapped."""
    group, tensor, module = join(CPU), rows(0).requires_grad_(), linear(0)
    assert (group.rank, group.world, group.device) == (0, 1, CPU)
    assert group.wrap(module) is module
    assert group.gather_with_gradient(tensor) is tensor
    assert not group.gather(tensor).requires_grad
    assert (group.any(True), group.total(3), group.start(2), group.objects("a")) == (
        True,
        3,
        0,
        ["a"],
    )


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
@pytest.mark.parametrize("text", ["", "two", "1.5"])
def test_what_torchrun_says_has_to_be_a_number(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """The message names the variable and what it holds."""
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=f'{name} is "{text}"'):
        join(CPU)


@pytest.mark.parametrize(
    ("device", "message"), [("cuda:1", "does not suit"), ("mps", "does not suit"), ("cpu", "meet")]
)
def test_what_several_processes_cannot_use_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, message: str
) -> None:
    """A GPU for all of them, and a start without torchrun's address."""
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=message):
        join(torch.device(device))
