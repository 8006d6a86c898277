"""Weight ensembling."""

import torch

from atas_deploy.clip.model import ClipModel
from atas_deploy.training.ensemble import ensemble, tower_weights


def moved(clip: ClipModel) -> dict[str, torch.Tensor]:
    """The weights of another model of the same kind."""
    torch.manual_seed(1)
    state = clip.model.state_dict()
    return {
        name: t + torch.randn_like(t) if t.is_floating_point() else t + 1
        for name, t in state.items()
    }


def test_the_tower_lies_between_and_the_rest_is_the_students(tiny_clip: ClipModel) -> None:
    """Every float tensor of the image tower by the formula, all others untouched."""
    teacher = tiny_clip.model.state_dict()
    student = moved(tiny_clip)
    found = ensemble(student, tower_weights(teacher), alpha=0.7)
    assert found.keys() == student.keys()
    for name, value in found.items():
        if name.startswith("visual.") and value.is_floating_point():
            torch.testing.assert_close(value, 0.7 * student[name] + 0.3 * teacher[name])
            assert not torch.equal(value, student[name])
        else:
            assert torch.equal(value, student[name])


def test_the_ends_are_exact(tiny_clip: ClipModel) -> None:
    """A share of 1 is the student and one of 0 the teacher's tower, bit for bit."""
    teacher = tower_weights(tiny_clip.model.state_dict())
    student = moved(tiny_clip)
    all_, none = (ensemble(student, teacher, alpha=alpha) for alpha in (1.0, 0.0))
    assert all(torch.equal(all_[name], student[name]) for name in student)
    assert all(torch.equal(none[name], teacher[name]) for name in teacher)


def test_equal_weights_stay_as_they_are(tiny_clip: ClipModel) -> None:
    """No rounding creeps in where nothing was learned."""
    state = tiny_clip.model.state_dict()
    found = ensemble(state, tower_weights(state), alpha=0.3)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_the_students_own_tensors_are_not_touched(tiny_clip: ClipModel) -> None:
    """Training goes on from the student, not from what is saved."""
    student = moved(tiny_clip)
    before = {name: t.clone() for name, t in student.items()}
    found = ensemble(student, tower_weights(tiny_clip.model.state_dict()), alpha=0.5)
    found["visual.proj"].zero_()
    assert all(torch.equal(student[name], before[name]) for name in student)


def test_the_teachers_copy_does_not_follow_training(tiny_clip: ClipModel) -> None:
    """It is taken before the weights move in place."""
    teacher = tower_weights(tiny_clip.model.state_dict())
    before = teacher["visual.proj"].clone()
    tiny_clip.model.visual.proj.data.add_(1.0)
    assert torch.equal(teacher["visual.proj"], before)
