//! One publishes, all receive: the next message is published when all have had one.

use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use peers::report::Outcome;

use crate::Run;
use crate::connection::{BUFFER, Connection};
use crate::meter::Meter;

/// A published message.
#[derive(Clone, Copy)]
struct Published {
    at: Instant,
    /// How many have not had it yet.
    missing: usize,
}

pub(crate) fn run(run: &Run, in_flight: usize) -> Result<Outcome, Box<dyn Error>> {
    let mut poll = Poll::new()?;
    // The first is the publisher, who gets its messages as well.
    let mut connections = Connection::open(&mut poll, run, 1)?;
    let audience = connections.len();
    let mut meter = Meter::new(run)?;
    // By the message's number modulo `in_flight`; and how many messages each connection has had.
    let mut published = vec![Published { at: Instant::now(), missing: audience }; in_flight];
    let mut had = vec![0_usize; audience];
    connections[0].send(in_flight)?;
    let mut buffer = vec![0; BUFFER];
    let mut events = Events::with_capacity(1024);
    while meter.goes_on(Instant::now())? {
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let Token(index) = event.token();
            let messages = connections[index].receive(&mut buffer)?;
            let now = Instant::now();
            let mut complete = 0;
            for number in had[index]..had[index] + messages {
                let message = &mut published[number % in_flight];
                meter.record(message.at, now, 1);
                message.missing -= 1;
                if message.missing == 0 {
                    *message = Published { at: now, missing: audience };
                    complete += 1;
                }
            }
            had[index] += messages;
            connections[0].send(complete)?;
        }
    }
    Ok(Outcome::Load(meter.finish()?))
}
