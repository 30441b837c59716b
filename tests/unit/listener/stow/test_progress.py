"""A body that comes on is waited for; one that stands still or drips is not."""

from __future__ import annotations

from services.listener.stow.progress import LEAST_BYTES, Progress


def test_a_body_that_drips_uses_its_time_up() -> None:
    progress = Progress(60.0)
    for second in range(60):
        assert progress.left_s == 60.0 - second
        progress.came(1.0, 1)
    assert progress.left_s == 0.0
    progress.came(5.0, 1)
    assert progress.left_s == 0.0


def test_a_body_that_comes_on_has_its_whole_time_again() -> None:
    progress = Progress(60.0)
    for _ in range(1000):
        progress.came(59.0, LEAST_BYTES - 1)
        assert progress.left_s == 1.0
        progress.came(0.5, 1)
        assert progress.left_s == 60.0


def test_time_in_which_it_is_not_waited_for_does_not_count() -> None:
    progress = Progress(60.0)
    for _ in range(1000):
        progress.came(0.0, 1)
    assert progress.left_s == 60.0
