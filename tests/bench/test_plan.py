"""Cases and turns."""

from dataclasses import replace

from atas_deploy.bench.plan import PLAIN, Contender, Effort, cases_of, turns_of


def test_every_combination_is_a_case_and_the_last_option_varies_first() -> None:
    """Two by one by one by two by one by two."""
    cases = cases_of(
        models=["a", "b"],
        backends=["ort"],
        device=None,
        short_sides=[None],
        sizes=[(720, 1280), (1080, 1920)],
        batch_sizes=[1],
        words=[2, 20],
    )
    found = [(case.model, case.size, case.words) for case in cases]
    assert found[:3] == [("a", (720, 1280), 2), ("a", (720, 1280), 20), ("a", (1080, 1920), 2)]
    assert len(set(found)) == len(found) == 8
    assert found[4][0] == "b"


def test_turns_alternate_and_contenders_share_a_baseline(contender: Contender) -> None:
    """A batch size more is a row more, but no baseline more, as that takes frames one by one."""
    large = replace(contender, batch_size=4)
    turns = list(turns_of([contender, large], Effort(rounds=2)))
    kinds = [(number, who.kind, who.batch_size) for number, who in turns]
    one_round = [("ours", 2), (PLAIN, 1), ("ours", 4)]
    assert kinds == [(number, *each) for number in range(2) for each in one_round]


def test_without_the_baseline_only_contenders_take_turns(contender: Contender) -> None:
    """`--no-plain`."""
    turns = list(turns_of([contender], Effort(rounds=3, plain=False)))
    assert turns == [(0, contender), (1, contender), (2, contender)]


def test_other_words_have_another_baseline(contender: Contender) -> None:
    """As have other pictures and models."""
    more = replace(contender, words=9)
    assert contender.plain() != more.plain()
    assert contender.plain() == replace(contender, batch_size=8).plain()
