"""The losses of ATAS and CLIPSelf, each beside its equation.

All vectors are L2-normalised. c is the teacher's embedding of a whole image, c' the student's;
p is a patch of the student in a mosaic, q the teacher's patch at the same place; s is the scale of
similarities, one over the temperature.

    B images of this process, K images whose teacher embeddings serve as keys (those of all
    processes), N patches of a cell, M mosaics, P patches of a mosaic, D embedding width

Losses are sums divided by `count`, the number of rows if nothing else is given. Processes that
share a batch give the mean number of rows of a process: the mean of their gradients is then that
of the mean over all rows. Everything is computed in float32 at least, under autocast, too.

Sources: Yeo et al., "ATAS: Any-to-Any Self-Distillation for Enhanced Open-Vocabulary Dense
Prediction", ICCV 2025, eq. 1 to 5; Wu et al., "CLIPSelf: Vision Transformer Distills Itself for
Open-Vocabulary Dense Prediction", ICLR 2024, eq. 1.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.forms import FORMS, REDUCTIONS, Form, Reduction


def pool_cells(patches: Tensor, teacher: Tensor, *, scale: float) -> Tensor:
    """One local vector a cell: patches weighted by their similarity to the cell's own image.

        w_ij = exp(s <p_i, c_j>) / sum over i' in cell j of exp(s <p_i', c_j>)
        l_j  = normalise(sum over i in cell j of w_ij p_i)

    Args:
        patches: (B, N, D) student's patches of each cell, p.
        teacher: (B, D) teacher's embedding of the image in the cell, c.
        scale: s; 0 gives the mean patch.

    Returns:
        l, (B, D), L2-normalised.

    Source: ATAS, eq. 1 and 2.
    """
    patches, teacher = _precise(patches), _precise(teacher)
    with torch.autocast(patches.device.type, enabled=False):
        similarity = torch.einsum("bnd,bd->bn", patches, teacher)
        weights = (scale * similarity).softmax(dim=1)
        return F.normalize(torch.einsum("bn,bnd->bd", weights, patches), dim=-1)


def global_loss(
    student: Tensor,
    keys: Tensor,
    *,
    form: Form,
    scale: float = 1.0,
    first: int = 0,
    count: float | None = None,
    twins: Tensor | None = None,
) -> Tensor:
    """Distance of the student's vectors to the teacher's embeddings of the same images.

    With x_j = l_j this is global-to-local, with x_j = c'_j global-to-global distillation:

        infonce:  -log( exp(s <x_j, c_j>) / sum_k exp(s <x_j, c_k>) )
        cosine:   1 - <x_j, c_j>
        kl:       sum_k t_jk log( t_jk / u_jk ),  t_j = softmax_k(s <c_j, c_k>),
                                                  u_j = softmax_k(s <x_j, c_k>)

    Args:
        student: (B, D), x.
        keys: (K, D) teacher's embeddings, c: constants, of all processes.
        form: which of the three.
        scale: s, of "infonce" and "kl".
        first: row of `keys` that belongs to row 0 of `student`; the others follow.
        count: what the sum is divided by, see the module.
        twins: (B, K) bool, further keys of the image of row j, which infonce leaves out of the sum
            over k: no image is a negative of itself.

    Returns:
        A scalar. "cosine" and "kl" vanish for a perfect student; "infonce" does so only as s grows.

    Raises:
        ConfigError: there is no such form.

    Source: ATAS, eq. 3 and 5 (infonce).
    """
    if form not in FORMS:
        raise ConfigError(f'The form "{form}" is unknown; choose {", ".join(FORMS)}.')
    student, keys = _precise(student), _precise(keys.detach())
    rows = len(student)
    own = keys[first : first + rows]
    if form == "cosine":
        return cosine_loss(student, own, count=count)
    with torch.autocast(student.device.type, enabled=False):
        logits = scale * student @ keys.T
        if form == "infonce":
            if twins is not None:
                logits = logits.masked_fill(twins, -math.inf)
            target = torch.arange(first, first + rows, device=keys.device)
            total = F.cross_entropy(logits, target, reduction="sum")
        else:
            wanted = (scale * own @ keys.T).log_softmax(dim=1)
            got = logits.log_softmax(dim=1)
            total = F.kl_div(got, wanted, reduction="sum", log_target=True)
    return total / _divisor(rows, count)


def local_to_local(
    student: Tensor, teacher: Tensor, *, reduction: Reduction, count: float | None = None
) -> Tensor:
    """Distance between the patch-similarity matrices of student and teacher.

        E_m = (<p_i, p_k>) - (<q_i, q_k>)  over the patches i, k of mosaic m

        row-norm:   mean over rows i of |E_m,i|_2
        mse:        mean over i and k of E_m,ik^2
        frobenius:  |E_m|_F

    Args:
        student: (M, P, D), p.
        teacher: (M, P, D), q.
        reduction: which of the three. For errors of one size e they are about e sqrt(P), e^2 and
            e P, so a weight belongs to its reduction.
        count: what the sum over mosaics is divided by, see the module.

    Returns:
        A scalar; 0 where the student keeps all similarities, as it does under any rotation.

    Raises:
        ConfigError: there is no such reduction.

    Source: ATAS, eq. 4 (mse, as its re-implementation reads it); row-norm as in Wang et al.,
    "DeCLIP", CVPR 2025.
    """
    if reduction not in REDUCTIONS:
        raise ConfigError(
            f'The reduction "{reduction}" is unknown; choose {", ".join(REDUCTIONS)}.'
        )
    error = similarities(student) - similarities(teacher).detach()
    each: Tensor
    if reduction == "row-norm":
        each = torch.linalg.vector_norm(error, dim=2).mean(dim=1)
    elif reduction == "mse":
        each = error.square().mean(dim=(1, 2))
    else:
        each = torch.linalg.vector_norm(error, dim=(1, 2))
    return each.sum() / _divisor(len(error), count)


def similarities(patches: Tensor) -> Tensor:
    """Cosines of all pairs of patches of a mosaic: (M, P, D) to (M, P, P)."""
    patches = _precise(patches)
    with torch.autocast(patches.device.type, enabled=False):
        return patches @ patches.transpose(1, 2)


def cosine_loss(student: Tensor, teacher: Tensor, *, count: float | None = None) -> Tensor:
    """1 - cosine, CLIPSelf's loss of regions and crops.

        1 - <x_j, c_j>

    Args:
        student: (B, D) embeddings of regions in the student's dense features, x.
        teacher: (B, D) the teacher's embeddings of the crops, c: constants.
        count: what the sum is divided by, see the module.

    Returns:
        A scalar; 0 for a perfect student.

    Source: CLIPSelf, eq. 1.
    """
    student, teacher = _precise(student), _precise(teacher.detach())
    total = (1.0 - (student * teacher).sum(dim=-1)).sum()
    return total / _divisor(len(student), count)


def _precise(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _divisor(rows: int, count: float | None) -> float:
    """`count` may be below 1: few rows among many processes; no rows at all add up to 0."""
    return (float(rows) if count is None else count) or 1.0
