"""What is told while a run goes on, and how times and lists are read."""

import click
import pytest

from atas_deploy.cli.progress import Lines, PromptProgress, Silent
from atas_deploy.cli.segment_options import parse_formats, parse_time


def test_words_have_a_phase_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The encoding of many words ends with a line that counts all prompts, each time."""
    tell = PromptProgress(Lines())
    for total in (1200, 2000):
        for done in (0, 256, total):
            tell(done, total)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in said] == ["words: 1200 prompts", "words: 2000 prompts"]


def test_lines_end_with_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line counts units; the total, which was an estimate, is gone; notes stand alone."""
    lines = Lines()
    lines.begin("clip\n", total=7, unit="frame")
    lines.advance()
    lines.advance(2)
    lines.note("no x264 here")
    lines.end()
    lines.end()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "no x264 here"
    assert said[1].startswith("clip\\n: 3 frames, ")
    assert len(said) == 2


@pytest.mark.parametrize(("seconds", "told"), [(1.0, "4.0 steps/s"), (80.0, "20.0 s/step")])
def test_the_speed_of_what_is_slow_is_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: float, told: str
) -> None:
    """Not "0.0 steps/s"."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = Lines()
    lines.begin("training", total=None, unit="step")
    lines.advance(4)
    now[0] = seconds
    lines.end()
    assert capsys.readouterr().err.splitlines()[-1] == f"training: 4 steps, {told}"


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing at all."""
    silent = Silent()
    silent.begin("x", total=1, unit="y")
    silent.advance()
    silent.note("z")
    silent.end()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "seconds"), [("12.5", 12.5), ("1:02", 62), ("01:02:03.5", 3723.5), ("0:90", 90)]
)
def test_times(text: str, seconds: float) -> None:
    """Seconds, minutes and hours."""
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:-2", "1:2:3:4", "nan", "inf", "1:1.5:2", "x"])
def test_wrong_times(text: str) -> None:
    """What is no time is wrong usage."""
    with pytest.raises(click.BadParameter, match="is no time"):
        parse_time(text)


def test_lists_of_formats() -> None:
    """Names joined by commas, each once."""
    assert parse_formats("coco, cvat,coco") == ("coco", "cvat")
    assert parse_formats("") == ()
    with pytest.raises(click.BadParameter, match="'voc' is unknown"):
        parse_formats("voc")
