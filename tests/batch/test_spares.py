import os
import signal

from helpers import jobs
from helpers.slices import wait_until

from tracecore import descendants
from tracecore.batch.run import Spares


def test_a_job_is_given_to_no_process_that_was_killed_before_it_came() -> None:
    spares = Spares(jobs.meet, lambda: None, "fork")
    taken = [spares.take(), spares.take()]  # forked by one, and by two
    (waiting,) = spares.pids
    os.kill(waiting, signal.SIGKILL)
    wait_until(lambda: descendants.has_ended(waiting))
    taken.append(spares.take())
    assert waiting not in {one.pid for one in taken}
    while spares.pids:
        taken.append(spares.take())
    for one in taken:
        os.close(one.job_fd)  # it ends at the end of its line
        os.close(one.answer_fd)
        os.waitpid(one.pid, 0)
