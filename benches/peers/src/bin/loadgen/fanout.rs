//! One publishes, all receive: the next message is published when all have had one.

use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::Run;
use crate::connection::{BUFFER, Connection};
use crate::meter::Meter;
use crate::turns::Traffic;

pub(crate) struct FanOut {
    poll: Poll,
    /// The first is the publisher, who gets its messages as well.
    connections: Vec<Connection>,
    /// By the message's number modulo how many are in flight.
    published: Vec<Published>,
    /// How many messages each connection has had.
    had: Vec<usize>,
    buffer: Vec<u8>,
}

/// A published message.
#[derive(Clone, Copy)]
struct Published {
    at: Instant,
    /// How many have not had it yet.
    missing: usize,
}

impl FanOut {
    pub(crate) fn open(run: &Run, in_flight: usize) -> Result<FanOut, Box<dyn Error>> {
        let mut poll = Poll::new()?;
        let connections = Connection::open(&mut poll, run, 1)?;
        let had = vec![0; connections.len()];
        let published = vec![Published { at: Instant::now(), missing: 0 }; in_flight];
        Ok(FanOut { poll, connections, published, had, buffer: vec![0; BUFFER] })
    }
}

impl Traffic for FanOut {
    fn turn(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
        meter.begin();
        let in_flight = self.published.len();
        let audience = self.connections.len();
        self.published.fill(Published { at: Instant::now(), missing: audience });
        let mut under_way = in_flight;
        self.connections[0].send(in_flight)?;
        let mut events = Events::with_capacity(1024);
        loop {
            let goes_on = meter.goes_on(Instant::now())?;
            if !goes_on && under_way == 0 {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Token(index) = event.token();
                let messages = self.connections[index].receive(&mut self.buffer)?;
                let now = Instant::now();
                let mut complete = 0;
                for number in self.had[index]..self.had[index] + messages {
                    let message = &mut self.published[number % in_flight];
                    meter.record(message.at, now, 1);
                    message.missing -= 1;
                    if message.missing == 0 {
                        *message = Published { at: now, missing: audience };
                        complete += 1;
                    }
                }
                self.had[index] += messages;
                if goes_on {
                    self.connections[0].send(complete)?;
                } else {
                    under_way -= complete;
                }
            }
        }
    }
}
