"""worker: the newest item is worked on, and nothing queues up."""

import threading
import time

from mpmesh_ros.worker import Slot, Worker


def never(error):
    raise AssertionError(error)


class TestSlot:
    def test_the_newest_wins(self):
        slot = Slot()
        assert not slot.put(1)
        assert slot.put(2)
        assert slot.take() == 2
        assert not slot.put(3)

    def test_nothing_in_time(self):
        assert Slot().take(timeout_s=0.01) is None

    def test_close_ends_waiting(self):
        slot = Slot()
        taken = []
        thread = threading.Thread(target=lambda: taken.append(slot.take()))
        thread.start()
        slot.close()
        thread.join(timeout=5)
        assert taken == [None]


class TestWorker:
    def test_a_slow_worker_skips_what_is_old(self):
        done, busy, go = [], threading.Event(), threading.Event()

        def work(item):
            busy.set()
            go.wait(5)
            done.append(item)

        worker = Worker(work, never)
        worker.slot.put(0)
        busy.wait(5)
        replaced = [worker.slot.put(item) for item in range(1, 6)]
        go.set()
        wait_until(lambda: len(done) == 2)
        worker.stop()
        assert done == [0, 5]
        assert replaced == [False, True, True, True, True]

    def test_goes_on_after_an_error(self):
        done, failed = [], []

        def work(item):
            if item == "bad":
                raise ValueError("broken")
            done.append(item)

        worker = Worker(work, failed.append)
        worker.slot.put("bad")
        wait_until(lambda: failed)
        worker.slot.put("good")
        wait_until(lambda: done)
        worker.stop()
        assert done == ["good"] and str(failed[0]) == "broken"

    def test_somebody_watches_while_nothing_comes_and_while_all_is_bad(self):
        seen, failed = [], []

        def work(item):
            raise ValueError(item)

        worker = Worker(work, failed.append, lambda: seen.append(len(failed)))
        wait_until(lambda: len(seen) >= 2)
        for count in range(1, 4):
            worker.slot.put("bad")
            wait_until(lambda count=count: count in seen)
        worker.stop()
        assert seen[:2] == [0, 0] and len(failed) == 3

    def test_stop_finishes_the_item_at_hand(self):
        done, busy = [], threading.Event()

        def work(item):
            busy.set()
            time.sleep(0.05)
            done.append(item)

        worker = Worker(work, never)
        worker.slot.put(1)
        busy.wait(5)
        worker.stop()
        assert done == [1]


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)
