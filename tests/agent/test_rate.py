"""So many a minute, and no more at once."""

from agent.rate import Rate


def test_a_bucket_empties_with_use_and_fills_with_time():
    now = [0.0]
    rate = Rate(60, lambda: now[0])
    assert [rate.allows() for _ in range(61)] == [True] * 60 + [False]
    now[0] = 2.5
    assert [rate.allows() for _ in range(3)] == [True, True, False]
    now[0] = 1e6
    assert sum(rate.allows() for _ in range(100)) == 60
