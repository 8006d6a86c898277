"""Who is asked what in a run; turns are answered here by a script, so that they can fail."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.bench import run
from atas_deploy.bench.plan import Case, Effort, cases_of
from atas_deploy.cli.progress import Silent
from atas_deploy.core.errors import BackendError

Answer = Callable[[dict[str, Any], int], dict[str, Any]]


def cases(*words: int) -> list[Case]:
    """Cases of the embedded model, one for each number of words."""
    return cases_of(
        models=["atas-tiny"],
        backends=["ort"],
        device=None,
        short_sides=[64],
        sizes=[(64, 96)],
        batch_sizes=[1],
        words=words,
    )


def sound(question: dict[str, Any], number: int) -> dict[str, Any]:
    """A turn in which all went well, and the words took as many seconds as there were turns."""
    if question["labels"]:
        np.savez(question["labels"], labels=np.ones((1, 2, 2), np.uint8))
    times = {"decode": [1.0], "encoder": [5.0]}
    size = {"size": [64, 96], "input": [64, 96], "precision": "fp32"}
    memory = {"resident_bytes": 2**20, "peak_bytes": 2**21, "device_bytes": None}
    peak = {"matrix_flops": 1e9, "matrix_product": "by hand"}
    run = {"frames": 2, "run_s": 0.1, "steps": [50.0], "stages": times, "text_s": float(number)}
    return size | memory | peak | run


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[dict[str, Any]]]:
    """Have turns answered by a function; return the questions as they come."""

    def script(answer: Answer) -> list[dict[str, Any]]:
        questions: list[dict[str, Any]] = []

        def ask(module: str, *arguments: str, broken: Any) -> dict[str, Any]:
            if module.endswith("flops"):
                return {"flops": [10**6] * (len(arguments) - 1)}
            questions.append(json.loads(arguments[0]))
            return answer(questions[-1], len(questions))

        monkeypatch.setattr(run, "ask", ask)
        return questions

    return script


def measure(asked: list[Case], **effort: Any) -> list[dict[str, Any]]:
    """The rows of a run of two frames."""
    report = run.run_bench(asked, Effort(frames=2, **effort), video=None, progress=Silent())
    return list(report["rows"])


def test_labels_are_asked_for_once_and_words_are_timed_once(
    ask: Callable[[Answer], list[dict[str, Any]]],
) -> None:
    """In the first round; later ones find the features in the folder of the first."""
    questions = ask(sound)
    (row,) = measure(cases(5), rounds=2)
    assert [q["contender"]["kind"] for q in questions] == ["ours", "plain"] * 2
    assert [q["labels"] is None for q in questions] == [False, False, True, True]
    assert questions[0]["cache"] == questions[2]["cache"] != questions[1]["cache"]
    assert row["text_encoding_s"] == 1.0
    assert row["plain"]["text_encoding_s"] == 2.0
    assert row["encoder_gflop"] == 0.001


def test_a_failed_turn_leaves_no_words_that_seem_to_take_no_time(
    ask: Callable[[Answer], list[dict[str, Any]]],
) -> None:
    """Another row of the same words begins with an empty folder."""

    def answer(question: dict[str, Any], number: int) -> dict[str, Any]:
        if number == 1:
            raise BackendError("Out of memory.")
        return sound(question, number)

    questions = ask(answer)
    (case,) = cases(5)
    failed, good = measure([case, replace(case, short_side=48)], rounds=2, plain=False)
    assert failed["error"] == "Out of memory."
    assert good["text_encoding_s"] == 2.0
    assert questions[0]["cache"] != questions[1]["cache"] == questions[2]["cache"]
    assert len(questions) == 3


def test_a_baseline_of_nothing_but_errors_takes_no_turn(
    ask: Callable[[Answer], list[dict[str, Any]]],
) -> None:
    """That of the other row does."""

    def answer(question: dict[str, Any], number: int) -> dict[str, Any]:
        if question["contender"]["kind"] == "ours" and question["contender"]["words"] == 5:
            raise BackendError("No such GPU.")
        return sound(question, number)

    questions = ask(answer)
    rows = measure(cases(5, 9), rounds=1)
    taken = [(q["contender"]["kind"], q["contender"]["words"]) for q in questions]
    assert taken == [("ours", 5), ("ours", 9), ("plain", 9)]
    assert ["error" in row for row in rows] == [True, False]


def test_levels_are_tried_behind_the_rounds(
    ask: Callable[[Answer], list[dict[str, Any]]],
) -> None:
    """By contenders of ours that got through them."""

    def answer(question: dict[str, Any], number: int) -> dict[str, Any]:
        if question["adaptive"]:
            return {"adaptive": [{"level": level} for level in question["adaptive"]]}
        return sound(question, number)

    questions = ask(answer)
    (row,) = measure(cases(5), rounds=1, adaptive=(0.1, 0.2))
    assert [bool(q["adaptive"]) for q in questions] == [False, False, True]
    assert row["adaptive"] == [{"level": 0.1}, {"level": 0.2}]


def test_the_users_video_is_measured_on(
    ask: Callable[[Answer], list[dict[str, Any]]], pan: Path
) -> None:
    """By its full path, as turns have another folder."""
    questions = ask(sound)
    effort = Effort(frames=2, rounds=1, plain=False)
    (case,) = cases(5)
    report = run.run_bench([replace(case, size=None)], effort, video=pan, progress=Silent())
    assert questions[0]["contender"]["video"] == str(pan.resolve())
    assert report["video"] == "as given"
    assert report["rows"][0]["size"] == [64, 96]
