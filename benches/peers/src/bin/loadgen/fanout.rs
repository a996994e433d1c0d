//! One connection publishes and all receive. The next message is published once all have received one.

use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::Run;
use crate::connection::{BUFFER, Connection};
use crate::meter::Meter;
use crate::slices::Traffic;

pub(crate) struct FanOut {
    poll: Poll,
    /// The first is the publisher, which receives its own messages too.
    connections: Vec<Connection>,
    /// Indexed by the message's number modulo the number of messages in flight.
    published: Vec<Published>,
    /// How many messages each connection has received.
    received: Vec<usize>,
    buffer: Vec<u8>,
}

/// A published message.
#[derive(Clone, Copy)]
struct Published {
    at: Instant,
    /// How many connections have not received it yet.
    remaining: usize,
}

impl FanOut {
    pub(crate) fn open(run: &Run, in_flight: usize) -> Result<FanOut, Box<dyn Error>> {
        let mut poll = Poll::new()?;
        let connections = Connection::open(&mut poll, run, 1)?;
        let received = vec![0; connections.len()];
        let published = vec![Published { at: Instant::now(), remaining: 0 }; in_flight];
        Ok(FanOut { poll, connections, published, received, buffer: vec![0; BUFFER] })
    }
}

impl Traffic for FanOut {
    fn run_slice(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
        meter.start_slice();
        let in_flight = self.published.len();
        let receivers = self.connections.len();
        self.published.fill(Published { at: Instant::now(), remaining: receivers });
        let mut outstanding = in_flight;
        self.connections[0].send(in_flight)?;
        let mut events = Events::with_capacity(1024);
        loop {
            let is_running = meter.is_running(Instant::now())?;
            if !is_running && outstanding == 0 {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Token(index) = event.token();
                let messages = self.connections[index].receive(&mut self.buffer)?;
                let now = Instant::now();
                let mut complete = 0;
                for number in self.received[index]..self.received[index] + messages {
                    let message = &mut self.published[number % in_flight];
                    meter.record(message.at, now, 1);
                    message.remaining -= 1;
                    if message.remaining == 0 {
                        *message = Published { at: now, remaining: receivers };
                        complete += 1;
                    }
                }
                self.received[index] += messages;
                if is_running {
                    self.connections[0].send(complete)?;
                } else {
                    outstanding -= complete;
                }
            }
        }
    }
}
