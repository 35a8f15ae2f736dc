"""The one way to wait for something in a cluster, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from handover import clock
from handover.kube.waiting import Overdue, until
from handover.ports.kube import Forbidden, KubeError


class Cluster:
    """Answers one thing after the other; the last one for ever. An exception is raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    async def look(self):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def wait(cluster, seconds=10.0):
    async def work():
        begun = clock.monotonic()
        return await until(cluster.look, clock.epoch() + seconds), clock.monotonic() - begun

    return asyncio.run(work())


def test_it_looks_every_half_second_until_there_is_something_to_say(virtual_time):
    assert wait(Cluster(None, None, None, "there")) == ("there", 1.5)


def test_what_is_there_at_once_takes_no_time_even_after_the_deadline(virtual_time):
    assert wait(Cluster("there"), seconds=-1) == ("there", 0.0)


def test_a_cluster_that_is_away_is_asked_again(virtual_time):
    away = (KubeError(0, "no answer"), KubeError(503, "starting"), KubeError(429, "too many"))
    assert wait(Cluster(*away, None, "there"))[0] == "there"


def test_a_refusal_ends_the_wait_at_once(virtual_time):
    cluster = Cluster(Forbidden(403, "you may not"))
    with pytest.raises(Forbidden):
        wait(cluster)
    assert cluster.asked == 1


@pytest.mark.parametrize(
    ("answers", "last"),
    [((None,), ""), ((None, KubeError(0, "no answer")), "no answer"), ((KubeError(0, "no answer"), None), "")],
)
def test_it_gives_up_at_the_deadline_and_tells_what_kept_it_from_looking(virtual_time, answers, last):
    cluster = Cluster(*answers)
    with pytest.raises(Overdue) as late:
        wait(cluster, seconds=3)
    assert (str(late.value), cluster.asked) == (last, 7)


@pytest.mark.parametrize(("status", "again"), [(0, True), (429, True), (503, True), (404, False), (403, False)])
def test_which_errors_of_the_cluster_may_pass(status, again):
    assert KubeError(status, "").passing is again
