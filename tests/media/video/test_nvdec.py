"""Decoding on a GPU, as far as it goes without one: how FFmpeg is asked, and what is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available

from atas_deploy.core.errors import BackendUnavailableError, InputError
from atas_deploy.media.video import VideoReader, opening

MakeClip = Callable[..., Path]


@pytest.fixture
def no_gpu() -> None:
    """Skip where there is one."""
    from atas_deploy.backends.trt.cards import find_card

    if find_card(0) is not None:
        pytest.skip("there is a GPU here")


def test_this_build_of_pyav_can_decode_on_nvidia_gpus() -> None:
    """FFmpeg in its wheels knows CUDA."""
    if "cuda" not in hwdevices_available():
        pytest.skip("this build of PyAV has no CUDA")
    assert av.codec.Codec("h264", "r").hardware_configs


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_command_to_use_is_named(make_clip: MakeClip) -> None:
    """There is no falling back."""
    with pytest.raises(BackendUnavailableError, match=r"The GPU 0 does not .*--decoder cpu") as got:
        VideoReader(make_clip(), gpu=0)
    assert "\n" not in str(got.value)


@pytest.mark.usefixtures("no_gpu")
def test_a_file_at_fault_is_named(tmp_path: Path) -> None:
    """Not the GPU."""
    path = tmp_path / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(5_000))
    with pytest.raises(InputError, match="is not a video"):
        VideoReader(path, gpu=0)


def test_ffmpeg_is_asked_for_the_gpu_of_that_number(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the context of CUDA's other users; frames come back to the host as on the CPU."""
    path, asked = make_clip(), []
    real = av.open

    def on_the_cpu(name: str, *, hwaccel: Any = None, **rest: Any) -> Any:
        asked.append(hwaccel)
        return real(name, **rest)

    monkeypatch.setattr(opening.av, "open", on_the_cpu)
    with VideoReader(path) as plain, VideoReader(path, gpu=1) as reader:
        pairs = zip(plain, reader, strict=True)
        assert all((one.image == two.image).all() for one, two in pairs)
    assert asked[0] is None
    assert asked[1].device_id == 1
    assert asked[1].options == {"primary_ctx": "1"}
    assert not asked[1].is_hw_owned
