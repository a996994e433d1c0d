//! An open loop: messages are due at a fixed rate, whatever the server makes of them.
//!
//! A latency counts from when its message was due, so that a server that stalls is not spared the messages that could
//! not be sent meanwhile ("coordinated omission").

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use peers::report::Outcome;

use crate::Run;
use crate::connection::{BUFFER, Connection};
use crate::meter::Meter;

pub(crate) fn run(run: &Run, rate: u64) -> Result<Outcome, Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut connections = Connection::open(&mut poll, run, 0)?;
    let mut due: Vec<VecDeque<Instant>> = connections.iter().map(|_| VecDeque::new()).collect();
    let mut buffer = vec![0; BUFFER];
    let mut events = Events::with_capacity(1024);
    let mut meter = Meter::new(run)?;
    let start = Instant::now();
    let mut next = 0_u64;
    let mut next_due = start;
    loop {
        let now = Instant::now();
        if !meter.goes_on(now)? {
            return Ok(Outcome::Load(meter.finish()?));
        }
        if now >= next_due {
            let index = (next % connections.len() as u64) as usize;
            due[index].push_back(next_due);
            connections[index].send(1)?;
            next += 1;
            next_due = start + Duration::from_nanos(next * 1_000_000_000 / rate);
        }
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let Token(index) = event.token();
            let messages = connections[index].receive(&mut buffer)?;
            let now = Instant::now();
            for due in due[index].drain(..messages) {
                meter.record(due, now, 1);
            }
            connections[index].flush()?;
        }
    }
}
