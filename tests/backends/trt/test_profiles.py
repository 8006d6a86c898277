"""Profiles: reading, defaults, choosing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.backends.trt.batches import takes_size
from atas_deploy.backends.trt.profiles import (
    Profile,
    Shape,
    choose,
    default_profiles,
    parse_profile,
    proof_shapes,
)
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.geometry import encoder_size


def test_profiles_are_read_as_they_are_written() -> None:
    """One shape or three; what is printed can be read again."""
    assert parse_profile("2x64X96", multiple=16) == Profile((2, 64, 96), (2, 64, 96), (2, 64, 96))
    text = "1x64x64:2x64x96:8x128x128"
    profile = parse_profile(text, multiple=16)
    assert profile == Profile((1, 64, 64), (2, 64, 96), (8, 128, 128))
    assert str(profile) == text
    assert str(parse_profile("2x64x96", multiple=16)) == "2x64x96"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64x64", "not of the form BxHxW"),
        ("1x64x64:1x96x96", "not of the form"),
        ("1x64x64:1x96x96:1x96x-96", "not of the form"),
        ("1x64x64:1x32x64:1x96x96", "is no range"),
        ("0x64x64", "is no range"),
        ("1x64x100", "side of 100 pixels; this model takes multiples of 16, such as 96"),
        ("", "not of the form"),
    ],
)
def test_profiles_that_cannot_be(text: str, message: str) -> None:
    """What is wrong, and how it is written."""
    with pytest.raises(ConfigError, match=message):
        parse_profile(text, multiple=16)


@pytest.mark.parametrize(("short_side", "trained", "multiple"), [(336, 224, 16), (224, 384, 14)])
def test_defaults_are_ranges_of_the_models_sizes(
    short_side: int, trained: int, multiple: int
) -> None:
    """What is printed of each can be read back for that model."""
    profiles = default_profiles(short_side=short_side, trained_size=trained, multiple=multiple)
    assert [parse_profile(str(p), multiple=multiple) for p in profiles] == list(profiles)


@settings(max_examples=50, deadline=None)
@given(st.integers(60, 3000), st.floats(1, 1.97), st.booleans(), st.integers(1, 8))
def test_defaults_take_every_picture_up_to_two_to_one(
    side: int, ratio: float, tall: bool, count: int
) -> None:
    """Any picture encoded at the recommended size has a profile, alone and in a batch."""
    size = (side, int(side * ratio)) if not tall else (int(side * ratio), side)
    height, width = encoder_size(size, short_side=336, multiple=16)
    profiles = default_profiles(short_side=336, trained_size=224, multiple=16)
    assert profiles[choose(profiles, (count, height, width))].takes((count, height, width))


NARROW = (
    Profile((1, 64, 64), (1, 64, 96), (1, 128, 128)),
    Profile((2, 64, 64), (8, 64, 96), (8, 128, 128)),
    Profile((1, 64, 64), (8, 64, 64), (32, 64, 64)),
)


@pytest.mark.parametrize(
    ("shape", "index"),
    [((1, 64, 96), 0), ((4, 96, 96), 1), ((8, 64, 64), 2), ((1, 64, 64), 0), ((32, 64, 64), 2)],
)
def test_the_profile_tuned_nearest_is_chosen(shape: Shape, index: int) -> None:
    """Where several take a shape, the one whose best shape is like it."""
    assert choose(NARROW, shape) == index


def test_sizes_outside_are_told_the_ranges_and_the_nearest() -> None:
    """min, opt and max of each profile, and a shape that one takes."""
    with pytest.raises(InputError) as caught:
        choose(NARROW, (4, 96, 160))
    message = str(caught.value)
    assert "min 2 x 64 x 64, opt 8 x 64 x 96, max 8 x 128 x 128" in message
    assert "nearest allowed size is 4 x 96 x 128" in message
    assert "--profile 4x96x160" in message


def test_shapes_to_prove_are_of_the_profiles_sizes() -> None:
    """Each profile takes some of them, and all are of few images."""
    profiles = (*NARROW, Profile((16, 32, 64), (16, 32, 96), (64, 32, 96)))
    shapes = proof_shapes(profiles)
    assert len(set(shapes)) == len(shapes)
    for profile in profiles:
        assert any(takes_size(profile, shape) for shape in shapes)
    assert {shape[0] for shape in shapes} == {1, 2}
