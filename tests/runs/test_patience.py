"""Waiting for room: what is told, when it is tried again, and that a wish to stop is heeded."""

import errno

import pytest

from tunesmith.errors import Interrupted, MachineError
from tunesmith.runs import patience as patience_module
from tunesmith.runs.patience import POLL_SECONDS, Patience, patiently, waiting


class World:
    """A clock that goes on when somebody sleeps, and a disk with so many bytes free."""

    def __init__(self, monkeypatch, tmp_path):
        self.seconds, self.free, self.told = 1000.0, 0, []
        self.after: dict[float, int] = {}
        self.place = tmp_path / "checkpoints" / "step-1"
        monkeypatch.setattr(patience_module, "free_bytes", lambda path: self.free)
        self.patience = Patience(self.told.append, lambda: False, self.sleep, lambda: self.seconds)

    def sleep(self, seconds):
        self.seconds += seconds
        for moment, free in self.after.items():
            if self.seconds - 1000 >= moment:
                self.free = free

    def error(self, number=errno.ENOSPC, needed=100):
        error = MachineError(str(self.place), got="no room", expected="room", hint="make room")
        error.errno, error.needed_bytes = number, needed
        return error

    def writer(self, works_from: float, **kind):
        """A write that works once so many seconds have passed; counts its calls."""

        def write():
            self.calls = getattr(self, "calls", 0) + 1
            if self.seconds - 1000 < works_from:
                raise self.error(**kind)
            return "written"

        return write


@pytest.fixture
def world(monkeypatch, tmp_path):
    return World(monkeypatch, tmp_path)


def test_a_write_that_works_is_done_once(world):
    with waiting(world.patience):
        assert patiently(world.writer(0)) == "written"
    assert (world.calls, world.told) == (1, [])


def test_without_waiting_a_full_disk_is_an_error(world):
    write = world.writer(1)
    with pytest.raises(MachineError, match="no room"):
        patiently(write)
    with waiting(world.patience), waiting(None), pytest.raises(MachineError, match="no room"):
        patiently(write)
    assert (world.calls, world.told) == (2, [])


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_other_errors_are_not_waited_for(world, number):
    with waiting(world.patience), pytest.raises(MachineError):
        patiently(world.writer(1, number=number))
    assert (world.calls, world.told) == (1, [])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_it_goes_on_as_soon_as_there_is_room(world, number):
    world.after = {1.0: 100}
    with waiting(world.patience):
        assert patiently(world.writer(1.0, number=number)) == "written"
    assert world.calls == 2
    assert world.seconds - 1000 == pytest.approx(1.0, abs=POLL_SECONDS)
    assert world.told == [
        f"paused: {world.error().message}",
        "going on after 1 s: there is room again, nothing was lost",
    ]
    assert world.patience.seconds == pytest.approx(1.0, abs=POLL_SECONDS)


def test_room_that_is_too_little_is_not_tried_before_its_time(world):
    world.after = {0.5: 99, 1.5: 100}
    with waiting(world.patience):
        patiently(world.writer(1.5))
    assert world.calls == 2


def test_a_quota_is_tried_again_though_no_space_changes_and_ever_more_rarely(world):
    with waiting(world.patience):
        patiently(world.writer(600.0, number=errno.EDQUOT, needed=None))
    # After 2, 6, 14, 30, 62, 122, ... s: nine times 60 s from 62 on.
    assert world.calls == 1 + 5 + 9
    assert len(world.told) == 2


def test_a_wish_to_stop_ends_the_wait_resumably(world):
    world.patience.stop = lambda: world.seconds > 1003
    with waiting(world.patience), pytest.raises(Interrupted) as caught:
        patiently(world.writer(1e9))
    assert world.seconds <= 1003 + 2 * POLL_SECONDS
    assert caught.value.exit_code == 130
    assert "while waiting for room" in str(caught.value)


def test_an_error_of_another_kind_while_waiting_ends_it(world):
    errors = [world.error(), world.error(errno.EIO)]

    def write():
        raise errors.pop(0)

    with waiting(world.patience), pytest.raises(MachineError) as caught:
        patiently(write)
    assert caught.value.errno == errno.EIO
