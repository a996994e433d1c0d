"""Named checks with a timeout, of which each prints `ok NAME` or `FAIL NAME why`."""

import contextlib
import os
import signal
import sys
import time


class Overdue(BaseException):
    """A check timed out. Not an Exception, so that no client library catches it."""


class Report:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.verbose = os.environ.get("INTEROP_TIMES") == "1"

    def ok(self, name):
        self.passed += 1
        print(f"ok {name}", flush=True)

    def fail(self, name, why):
        self.failed += 1
        print(f"FAIL {name} {' '.join(str(why).split())[:500]}", flush=True)

    @contextlib.contextmanager
    def check(self, name, seconds=30):
        """Runs the block as a check, which fails by an exception or after `seconds`."""

        def overdue(_signal, _frame):
            raise Overdue(f"not done after {seconds} s")

        before = signal.signal(signal.SIGALRM, overdue)
        # Repeats, because an exception that is raised in a destructor is ignored.
        signal.setitimer(signal.ITIMER_REAL, seconds, 2)
        start = time.monotonic()
        try:
            yield
        except (Exception, Overdue) as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.fail(name, f"{type(error).__name__}: {error}")
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.ok(name)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        if self.verbose:
            print(f"   ({name}: {time.monotonic() - start:.2f} s)", flush=True)

    def exit(self):
        """Ends the script, with status 1 if a check failed or none ran."""
        if self.passed + self.failed == 0:
            print("FAIL no-check-ran nothing was checked", flush=True)
            sys.exit(1)
        sys.exit(1 if self.failed else 0)


def expect(condition, why):
    """As `assert`, but also with `python -O`."""
    if not condition:
        raise AssertionError(why)


def expect_equal(got, wanted, what):
    """Compares values, and shortens them in the error."""
    if got == wanted and type(got) is type(wanted):
        return
    raise AssertionError(f"{what}: got {summary(got)}, wanted {summary(wanted)}")


def summary(value):
    if isinstance(value, (str, bytes)) and len(value) > 40:
        return f"{type(value).__name__} of {len(value)} starting {value[:40]!r}"
    return repr(value)
