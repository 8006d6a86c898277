"""The losses against their equations written out number by number, and what must hold of them."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.losses import (
    FORMS,
    REDUCTIONS,
    Form,
    Reduction,
    cosine_loss,
    global_loss,
    local_to_local,
    pool_cells,
    similarities,
)

Vector = Sequence[float]
every_form = pytest.mark.parametrize("form", FORMS)
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


# The equations, in Python's own floats.


def dot(a: Vector, b: Vector) -> float:
    """<a, b>."""
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def softmax(values: Vector) -> list[float]:
    """Weights that add up to 1."""
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / math.fsum(powers) for power in powers]


def written_pooling(patches: Tensor, teacher: Tensor, scale: float) -> list[list[float]]:
    """w_ij of each patch of each cell, the weighted sum, then its direction."""
    pooled = []
    for cell, key in zip(patches.tolist(), teacher.tolist(), strict=True):
        weights = softmax([scale * dot(patch, key) for patch in cell])
        total = [0.0] * len(key)
        for weight, patch in zip(weights, cell, strict=True):
            for d, number in enumerate(patch):
                total[d] += weight * number
        length = math.sqrt(dot(total, total))
        pooled.append([number / length for number in total])
    return pooled


def written_global(
    student: Tensor, keys: Tensor, form: Form, scale: float, first: int = 0
) -> float:
    """The mean over the student's rows."""
    rows, all_keys, total = student.tolist(), keys.tolist(), 0.0
    for j, x in enumerate(rows):
        own = all_keys[first + j]
        of_student = softmax([scale * dot(x, key) for key in all_keys])
        of_teacher = softmax([scale * dot(own, key) for key in all_keys])
        if form == "infonce":
            total -= math.log(of_student[first + j])
        elif form == "cosine":
            total += 1.0 - dot(x, own)
        else:
            for t, u in zip(of_teacher, of_student, strict=True):
                total += t * (math.log(t) - math.log(u))
    return total / len(rows)


def written_relations(student: Tensor, teacher: Tensor, reduction: Reduction) -> float:
    """The mean over the mosaics."""
    total = 0.0
    for p, q in zip(student.tolist(), teacher.tolist(), strict=True):
        count = len(p)
        rows = []
        for i in range(count):
            rows.append([(dot(p[i], p[k]) - dot(q[i], q[k])) ** 2 for k in range(count)])
        if reduction == "row-norm":
            total += math.fsum(math.sqrt(math.fsum(row)) for row in rows) / count
        elif reduction == "mse":
            total += math.fsum(map(math.fsum, rows)) / count**2
        else:
            total += math.sqrt(math.fsum(map(math.fsum, rows)))
    return total / len(student)


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random vectors of length 1."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).to(
        dtype
    )


def rotation(width: int) -> Tensor:
    """A random orthogonal matrix."""
    generator = torch.Generator().manual_seed(99)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient of a scalar."""
    leaf = at.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf), leaf)
    return found


# Each loss is its equation.


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0, 100.0])
@pytest.mark.parametrize(("cells", "patches"), [(3, 5), (1, 4), (4, 1), (1, 1)])
def test_pooling_is_its_equation(cells: int, patches: int, scale: float) -> None:
    """Equations 1 and 2, for one cell and for one patch a cell, too."""
    p, c = unit(cells, patches, 6), unit(cells, 6, seed=1)
    expected = torch.tensor(written_pooling(p, c, scale), dtype=torch.float64)
    torch.testing.assert_close(pool_cells(p, c, scale=scale), expected, rtol=1e-12, atol=1e-12)


@every_form
@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0])
@pytest.mark.parametrize(("rows", "keys", "first"), [(4, 4, 0), (3, 8, 0), (3, 8, 5), (1, 1, 0)])
def test_global_loss_is_its_equation(
    rows: int, keys: int, first: int, scale: float, form: Form
) -> None:
    """Equations 3 and 5, with keys of other processes before and behind our own."""
    x, c = unit(rows, 6), unit(keys, 6, seed=1)
    got = global_loss(x, c, form=form, scale=scale, first=first)
    assert float(got) == pytest.approx(
        written_global(x, c, form, scale, first), rel=1e-11, abs=1e-14
    )


@every_reduction
@pytest.mark.parametrize(("mosaics", "patches"), [(2, 7), (1, 5), (3, 1)])
def test_local_to_local_is_its_equation(mosaics: int, patches: int, reduction: Reduction) -> None:
    """Equation 4 under each reduction."""
    p, q = unit(mosaics, patches, 6), unit(mosaics, patches, 6, seed=1)
    expected = written_relations(p, q, reduction)
    got = local_to_local(p, q, reduction=reduction)
    assert float(got) == pytest.approx(expected, rel=1e-11, abs=1e-14)


def test_cosine_loss_is_its_equation() -> None:
    """CLIPSelf's loss is the mean of 1 - cosine; the cosine form of the global loss is the same."""
    x, c = unit(5, 6), unit(5, 6, seed=1)
    expected = math.fsum(1 - dot(a, b) for a, b in zip(x.tolist(), c.tolist(), strict=True)) / 5
    assert float(cosine_loss(x, c)) == pytest.approx(expected, rel=1e-13)
    assert float(global_loss(x, c, form="cosine")) == pytest.approx(expected, rel=1e-13)


def test_similarities_are_all_products() -> None:
    """Patch by patch, in each mosaic by itself."""
    p = unit(2, 3, 4)
    expected = [[[dot(a, b) for b in one] for a in one] for one in p.tolist()]
    torch.testing.assert_close(similarities(p), torch.tensor(expected, dtype=torch.float64))


# Gradients.


def scaled(function: Callable[..., Tensor], **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of two tensors, its vectors normalised so that any input will do."""
    return lambda x, c: function(F.normalize(x, dim=-1), c, **options)


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
def test_gradient_of_pooling(scale: float) -> None:
    """Through weights and sum, against finite differences."""
    x, c = unit(3, 4, 5).requires_grad_(), unit(3, 5, seed=1)
    assert torch.autograd.gradcheck(partial(scaled(pool_cells, scale=scale), c=c), x)


@every_form
def test_gradient_of_the_global_loss(form: Form) -> None:
    """Against finite differences."""
    x, c = unit(3, 5).requires_grad_(), unit(7, 5, seed=1)
    loss = scaled(global_loss, form=form, scale=5.0, first=2, count=4.0)
    assert torch.autograd.gradcheck(partial(loss, c=c), x)


@every_reduction
def test_gradient_of_local_to_local(reduction: Reduction) -> None:
    """Against finite differences."""
    x, c = unit(2, 4, 5).requires_grad_(), unit(2, 4, 5, seed=1)
    loss = scaled(local_to_local, reduction=reduction, count=3.0)
    assert torch.autograd.gradcheck(partial(loss, c=c), x)


def test_gradient_of_the_cosine_loss() -> None:
    """Against finite differences."""
    x, c = unit(4, 5).requires_grad_(), unit(4, 5, seed=1)
    assert torch.autograd.gradcheck(partial(scaled(cosine_loss, count=3.0), c=c), x)


@every_reduction
@pytest.mark.parametrize("patches", [1, 6])
def test_first_step_of_local_to_local_has_a_gradient(patches: int, reduction: Reduction) -> None:
    """Where the student is the teacher, as when training begins, norms have no slope but no NaN."""
    p = unit(2, patches, 6)
    found = gradient(lambda x: local_to_local(x, p, reduction=reduction), p)
    assert found.isfinite().all()
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-6)


def test_one_perfect_mosaic_does_not_spoil_the_gradient_of_another() -> None:
    """A mosaic without error beside one with errors."""
    q = unit(2, 5, 6)
    p = torch.stack([q[0], unit(5, 6, seed=2)])
    for reduction in REDUCTIONS:
        found = gradient(lambda x, r=reduction: local_to_local(x, q, reduction=r), p)
        alone = gradient(lambda x, r=reduction: local_to_local(x, q[1:], reduction=r), p[1:])
        torch.testing.assert_close(found[1:], alone / 2)


def test_patches_that_cancel_give_a_finite_gradient() -> None:
    """A cell whose weighted sum is zero has no direction, and no NaN."""
    p = torch.stack([unit(6), -unit(6)])[None]
    pooled = pool_cells(p, unit(1, 6, seed=1), scale=0.0)
    assert pooled.isfinite().all()
    found = gradient(lambda x: pool_cells(x, unit(1, 6, seed=1), scale=0.0).sum(), p)
    assert found.isfinite().all()


# A perfect student.


@every_form
def test_a_perfect_student_has_no_loss(form: Form) -> None:
    """Cosine and KL vanish with their slope along the sphere; InfoNCE needs a large scale."""
    c = unit(6, 8)
    loss = scaled(global_loss, form=form, scale=1e3 if form == "infonce" else 20.0)
    assert float(loss(c, c)) == pytest.approx(0.0, abs=1e-12)
    slope = gradient(partial(loss, c=c), c)
    torch.testing.assert_close(slope, torch.zeros_like(c), rtol=0, atol=1e-10)


def test_a_perfect_student_has_no_loss_of_regions() -> None:
    """CLIPSelf's loss vanishes, and is 2 for the opposite."""
    c = unit(6, 8)
    assert float(cosine_loss(c, c)) == pytest.approx(0.0, abs=1e-14)
    assert float(cosine_loss(-c, c)) == pytest.approx(2.0)


@every_reduction
def test_a_common_rotation_of_the_patches_is_free(reduction: Reduction) -> None:
    """Similarities alone count: the teacher's patches rotated have no loss, all others the same."""
    p, q, turn = unit(2, 7, 6), unit(2, 7, 6, seed=1), rotation(6)
    assert float(local_to_local(q @ turn, q, reduction=reduction)) == pytest.approx(0.0, abs=1e-13)
    turned = local_to_local(p @ turn, q, reduction=reduction)
    torch.testing.assert_close(turned, local_to_local(p, q, reduction=reduction))
    assert float(turned) > 1e-3


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 200), keys=st.integers(1, 12))
def test_kl_is_never_negative(seed: int, scale: float, keys: int) -> None:
    """Nor is any other form, but for rounding."""
    x, c = unit(keys, 4, seed=seed), unit(keys, 4, seed=seed + 1)
    for form in FORMS:
        assert float(global_loss(x, c, form=form, scale=scale)) >= -1e-12


def test_kl_asks_for_the_teachers_distribution_not_for_its_own_key() -> None:
    """Where keys look alike, a student that is sure of its own is punished, unlike by InfoNCE."""
    c = F.normalize(torch.ones(4, 8, dtype=torch.float64) + unit(4, 8), dim=-1)
    sure = F.normalize(c - c.mean(dim=0), dim=-1)
    kl, infonce = (partial(global_loss, keys=c, form=form, scale=5.0) for form in ("kl", "infonce"))
    assert float(kl(sure)) > float(kl(c))
    assert float(infonce(sure)) < float(infonce(c))


# Order and number of images.


@every_form
def test_a_permuted_batch_has_the_same_loss(form: Form) -> None:
    """Rows and keys in another order: the same loss, the gradient in that order."""
    x, c, order = unit(6, 5), unit(6, 5, seed=1), torch.randperm(6)
    loss = partial(global_loss, form=form, scale=10.0)
    torch.testing.assert_close(loss(x[order], c[order]), loss(x, c))
    moved = gradient(lambda a: loss(a, c[order]), x[order])
    torch.testing.assert_close(moved, gradient(lambda a: loss(a, c), x)[order])


def test_pooling_follows_a_permuted_batch() -> None:
    """Cells in another order are pooled in that order; patches of a cell have none."""
    p, c, order = unit(5, 4, 6), unit(5, 6, seed=1), torch.randperm(5)
    pooled = pool_cells(p, c, scale=20.0)
    torch.testing.assert_close(pool_cells(p[order], c[order], scale=20.0), pooled[order])
    torch.testing.assert_close(pool_cells(p.flip(1), c, scale=20.0), pooled)


@every_reduction
def test_order_of_mosaics_and_patches_does_not_count(reduction: Reduction) -> None:
    """Where student and teacher are permuted alike."""
    p, q = unit(3, 6, 5), unit(3, 6, 5, seed=1)
    expected = local_to_local(p, q, reduction=reduction)
    places, mosaics = torch.randperm(6), torch.tensor([2, 0, 1])
    for moved in (lambda x: x[:, places], lambda x: x[mosaics]):
        torch.testing.assert_close(
            local_to_local(moved(p), moved(q), reduction=reduction), expected
        )


@pytest.mark.parametrize("form", ["infonce", "kl"])
def test_one_image_has_nothing_to_be_told_from(form: Form) -> None:
    """With a single key the loss and its gradient are zero, whatever the student."""
    x, c = unit(1, 5), unit(1, 5, seed=1)
    loss = partial(global_loss, keys=c, form=form, scale=50.0)
    assert float(loss(x)) == pytest.approx(0.0, abs=1e-15)
    assert gradient(loss, x).abs().max() < 1e-14


def test_one_patch_a_cell_is_its_own_local_vector() -> None:
    """Whatever the scale."""
    p = unit(4, 1, 6)
    for scale in (0.0, 1.0, 1e4):
        torch.testing.assert_close(pool_cells(p, unit(4, 6, seed=1), scale=scale), p[:, 0])


def test_no_regions_are_no_loss() -> None:
    """A batch whose images have no region left gives 0, not NaN, and can be differentiated."""
    none = torch.zeros(0, 5, requires_grad=True)
    loss = cosine_loss(none, torch.zeros(0, 5))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0.0
    assert none.grad is not None


# Scales and temperatures.


def test_pooling_goes_from_the_mean_to_the_best_patch() -> None:
    """Scale 0, an infinite temperature, is the mean; a huge scale takes the most similar patch."""
    p, c = unit(3, 6, 5), unit(3, 5, seed=1)
    torch.testing.assert_close(pool_cells(p, c, scale=0.0), F.normalize(p.mean(dim=1), dim=-1))
    best = (p @ c[..., None])[..., 0].argmax(dim=1)
    torch.testing.assert_close(pool_cells(p, c, scale=1e5), p[torch.arange(3), best])


def test_infonce_at_scale_0_is_a_guess_among_the_keys() -> None:
    """The logarithm of their number."""
    got = global_loss(unit(3, 5), unit(7, 5, seed=1), form="infonce", scale=0.0)
    assert float(got) == pytest.approx(math.log(7))


def test_temperature_1_on_cosines_cannot_be_solved() -> None:
    """A perfect student of 36 images of cosine 0.5 loses 3.10, one that leaves its teacher less."""
    shared = torch.ones(36, 1, dtype=torch.float64)
    c = torch.cat([shared, torch.eye(36, dtype=torch.float64)], dim=1) / math.sqrt(2)
    loss = partial(global_loss, keys=c, form="infonce")
    assert float(loss(c, scale=1.0)) == pytest.approx(math.log(1 + 35 * math.exp(-0.5)))
    leaving = F.normalize(c - c.mean(dim=0), dim=-1)
    assert float(loss(leaving, scale=1.0)) < float(loss(c, scale=1.0)) - 0.1
    assert float(loss(c, scale=100.0)) < 1e-12


@pytest.mark.parametrize("scale", [1e3, 1e6])
@pytest.mark.parametrize("form", ["infonce", "kl"])
def test_a_huge_scale_overflows_nothing(form: Form, scale: float) -> None:
    """Loss and gradient stay finite in float32; a wrong student is as far off as its logits."""
    c = torch.eye(4)
    wrong = c.roll(1, dims=0)
    loss = partial(global_loss, keys=c, form=form, scale=scale)
    assert float(loss(wrong)) == pytest.approx(scale, rel=1e-6)
    assert gradient(loss, wrong).isfinite().all()
    assert float(loss(c)) == 0.0
    assert pool_cells(wrong[None], c[:1], scale=scale).isfinite().all()


def test_unknown_names_are_refused() -> None:
    """The message names what there is."""
    with pytest.raises(ConfigError, match="infonce"):
        global_loss(unit(2, 3), unit(2, 3), form="mse")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="row-norm"):
        local_to_local(unit(1, 2, 3), unit(1, 2, 3), reduction="sum")  # type: ignore[arg-type]
