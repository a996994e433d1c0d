//! The deadlines of a connection, in one table.

use std::time::Duration;

use crate::config::Config;
use crate::worker::connection::flags::{Flag, Flags};
use crate::worker::connection::phase::Phase;
use crate::worker::timer_wheel::{Tick, TimerWheel};

/// A close frame waits at most 500 ms for the application's answers to the messages before it. Longer delays the close
/// where the application does not read its events; shorter loses the answers of a slow application.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// A deadline of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// [`max_lifetime`](Config::max_lifetime) is over.
    Lifetime,
    /// The output is above the high-water mark, and the socket took less than
    /// [`min_write_progress`](Config::min_write_progress) of it within [`write_timeout`](Config::write_timeout).
    Write,
    /// Nothing was received for [`ping_interval`](Config::ping_interval): a ping is due.
    Ping,
    /// The ping was not answered within [`pong_timeout`](Config::pong_timeout), which begins anew while output before the
    /// ping is on its way to the peer.
    Pong,
    /// The application has not seen the connection's end within [`ANSWER_TIMEOUT`].
    Answers,
    /// The peer has not completed the closing handshake within [`close_timeout`](Config::close_timeout), counted from
    /// when our close frame was written, or was last on its way to the peer behind other output. Or the socket took less
    /// than [`min_write_progress`](Config::min_write_progress) of the output before the close frame within
    /// [`write_timeout`](Config::write_timeout).
    Close,
}

/// The state of a connection that determines its deadlines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    pub(crate) phase: Phase,
    pub(crate) flags: Flags,
    /// The times of the same names in [`Conn`](super::conn::Conn).
    pub(crate) opened: Tick,
    pub(crate) heard: Tick,
    pub(crate) since: Tick,
    /// Whether output waits for the socket. While the connection closes, our close frame is the end of it.
    pub(crate) is_writing: bool,
}

impl Timers {
    /// Returns the earliest deadline, and when it passes. Of several at the same time, the first in the order of
    /// [`Deadline`].
    pub(crate) fn next_deadline(self, config: &Config) -> Option<(Tick, Deadline)> {
        let deadlines = match self.phase {
            Phase::Open => [self.lifetime(config), self.write(config), self.keepalive(config)],
            Phase::AwaitingAnswers => [Some((after(self.since, ANSWER_TIMEOUT), Deadline::Answers)), None, None],
            // The output before the close frame may be large, and its reader slow: what counts is that it moves.
            Phase::Closing | Phase::Flushing if self.is_writing => {
                [Some((after(self.since, config.write_timeout), Deadline::Close)), None, None]
            }
            Phase::Closing | Phase::Flushing | Phase::Lingering => {
                [Some((after(self.since, config.close_timeout), Deadline::Close)), None, None]
            }
            Phase::Aborting | Phase::Closed => return None,
        };
        deadlines.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn lifetime(self, config: &Config) -> Option<(Tick, Deadline)> {
        Some((after(self.opened, config.max_lifetime?), Deadline::Lifetime))
    }

    fn write(self, config: &Config) -> Option<(Tick, Deadline)> {
        let is_due = self.flags.contains(Flag::AboveHighWater);
        is_due.then(|| (after(self.since, config.write_timeout), Deadline::Write))
    }

    fn keepalive(self, config: &Config) -> Option<(Tick, Deadline)> {
        let interval = config.ping_interval?;
        Some(match self.flags.contains(Flag::PingOutstanding) {
            false => (after(self.heard, interval), Deadline::Ping),
            true => (after(self.heard, interval.saturating_add(config.pong_timeout)), Deadline::Pong),
        })
    }
}

fn after(tick: Tick, wait: Duration) -> Tick {
    tick.saturating_add(TimerWheel::ticks(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> Config {
        Config {
            max_lifetime: Some(100 * SECOND),
            write_timeout: 10 * SECOND,
            ping_interval: Some(30 * SECOND),
            pong_timeout: 20 * SECOND,
            close_timeout: 5 * SECOND,
            ..Config::default()
        }
    }

    fn timers(phase: Phase, flags: &[Flag]) -> Timers {
        let mut set = Flags::default();
        flags.iter().for_each(|flag| set.set(*flag, true));
        Timers { phase, flags: set, opened: 0, heard: 0, since: 0, is_writing: false }
    }

    fn at(seconds: u32, deadline: Deadline) -> Option<(Tick, Deadline)> {
        Some((TimerWheel::ticks(seconds * SECOND), deadline))
    }

    #[test]
    fn each_phase_has_its_deadline() {
        for (phase, flags, expected) in [
            (Phase::Open, &[][..], at(30, Deadline::Ping)),
            (Phase::Open, &[Flag::PingOutstanding], at(50, Deadline::Pong)),
            (Phase::Open, &[Flag::AboveHighWater], at(10, Deadline::Write)),
            (Phase::Open, &[Flag::AboveHighWater, Flag::PingOutstanding], at(10, Deadline::Write)),
            (Phase::Closing, &[Flag::AboveHighWater, Flag::PingOutstanding], at(5, Deadline::Close)),
            (Phase::AwaitingAnswers, &[Flag::Clean], Some((TimerWheel::ticks(SECOND / 2), Deadline::Answers))),
            (Phase::Flushing, &[Flag::Clean], at(5, Deadline::Close)),
            (Phase::Lingering, &[Flag::ReadClosed], at(5, Deadline::Close)),
            (Phase::Closed, &[Flag::AboveHighWater], None),
        ] {
            assert_eq!(timers(phase, flags).next_deadline(&config()), expected, "{phase:?} {flags:?}");
        }
    }

    /// A close frame behind a large output has its time once it is written. The output before it has to move, as while
    /// the connection is open.
    #[test]
    fn the_time_for_the_answer_to_a_close_frame_begins_when_it_is_written() {
        for phase in [Phase::Closing, Phase::Flushing] {
            let writing = |since| Timers { since, is_writing: true, ..timers(phase, &[]) };
            assert_eq!(writing(0).next_deadline(&config()), at(10, Deadline::Close));
            let seven = TimerWheel::ticks(7 * SECOND);
            let after_seven = |seconds| Some((seven + TimerWheel::ticks(seconds * SECOND), Deadline::Close));
            assert_eq!(writing(seven).next_deadline(&config()), after_seven(10), "the socket took some");
            let written = Timers { is_writing: false, ..writing(seven) };
            assert_eq!(written.next_deadline(&config()), after_seven(5));
        }
        let lingering = Timers { is_writing: true, ..timers(Phase::Lingering, &[]) };
        assert_eq!(lingering.next_deadline(&config()), at(5, Deadline::Close));
    }

    #[test]
    fn a_deadline_counts_from_its_own_time() {
        let timers =
            |opened, heard, since| Timers { opened, heard, since, ..timers(Phase::Open, &[Flag::AboveHighWater]) };
        let ticks = |seconds| TimerWheel::ticks(seconds * SECOND);
        let next = |timers: Timers| timers.next_deadline(&config());
        assert_eq!(next(timers(7, ticks(200), ticks(200))), Some((7 + ticks(100), Deadline::Lifetime)));
        assert_eq!(next(timers(ticks(200), 7, ticks(200))), Some((7 + ticks(30), Deadline::Ping)));
        assert_eq!(next(timers(ticks(200), ticks(200), 7)), Some((7 + ticks(10), Deadline::Write)));
    }

    #[test]
    fn of_two_at_one_time_the_one_that_ends_the_connection_is_first() {
        let config = Config { max_lifetime: Some(30 * SECOND), ..config() };
        assert_eq!(timers(Phase::Open, &[]).next_deadline(&config), at(30, Deadline::Lifetime));
    }

    #[test]
    fn without_a_limit_nothing_is_due() {
        let config = Config { max_lifetime: None, ping_interval: None, ..config() };
        assert_eq!(timers(Phase::Open, &[]).next_deadline(&config), None);
        assert_eq!(timers(Phase::Open, &[Flag::PingOutstanding]).next_deadline(&config), None);
    }

    #[test]
    fn a_wait_beyond_the_clock_does_not_overflow() {
        let config = Config { max_lifetime: Some(Duration::MAX), ping_interval: None, ..config() };
        let timers = Timers { opened: Tick::MAX - 1, ..timers(Phase::Open, &[]) };
        assert_eq!(timers.next_deadline(&config), Some((Tick::MAX, Deadline::Lifetime)));
    }
}
