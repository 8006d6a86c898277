"""Weight ensembling: a point between what the image tower was and what it has become."""

from collections.abc import Mapping

from torch import Tensor

_TOWER = "visual."


def tower_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU of what `ensemble` needs of the teacher: the image tower's float tensors.

    Args:
        state: state dict of an open_clip model.
    """
    return {
        name: tensor.detach().cpu().clone()
        for name, tensor in state.items()
        if name.startswith(_TOWER) and tensor.is_floating_point()
    }


def ensemble(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], *, alpha: float
) -> dict[str, Tensor]:
    """Give alpha * student + (1 - alpha) * teacher for the tensors that the teacher has.

    Computed in float64 and rounded to the student's type, so that a share of 1, or equal weights,
    change no bit. The arguments stay as they are.

    Args:
        student: state dict of an open_clip model.
        teacher: what `tower_weights` took before training.
        alpha: the student's share, in [0, 1].

    Returns:
        A state dict on the CPU.

    Source: Wu et al., "CLIPSelf", ICLR 2024: its weight ensemble; Wortsman et al., "Robust
    fine-tuning of zero-shot models" (WiSE-FT), CVPR 2022.
    """
    return {
        name: _between(tensor.detach().cpu(), teacher.get(name), alpha)
        for name, tensor in student.items()
    }


def _between(student: Tensor, teacher: Tensor | None, alpha: float) -> Tensor:
    if teacher is None:
        return student
    return teacher.double().lerp(student.double(), alpha).to(student.dtype)
