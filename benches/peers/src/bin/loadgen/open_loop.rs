//! An open loop: messages are due at a fixed rate, whatever the server makes of them.
//!
//! A latency counts from when its message was due, so that a server that stalls is not spared the messages that could
//! not be sent meanwhile ("coordinated omission").

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::Run;
use crate::connection::{BUFFER, Connection};
use crate::meter::Meter;
use crate::turns::Traffic;

pub(crate) struct OpenLoop {
    poll: Poll,
    rate: u64,
    connections: Vec<Connection>,
    /// Of each connection: when the messages were due that are under way.
    due: Vec<VecDeque<Instant>>,
    /// Whose turn it is.
    next: usize,
    buffer: Vec<u8>,
}

impl OpenLoop {
    pub(crate) fn open(run: &Run, rate: u64) -> Result<OpenLoop, Box<dyn Error>> {
        let mut poll = Poll::new()?;
        let connections = Connection::open(&mut poll, run, 0)?;
        let due = connections.iter().map(|_| VecDeque::new()).collect();
        Ok(OpenLoop { poll, rate, connections, due, next: 0, buffer: vec![0; BUFFER] })
    }
}

impl Traffic for OpenLoop {
    fn turn(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
        meter.begin();
        let mut events = Events::with_capacity(1024);
        let start = Instant::now();
        let mut next_due = start;
        let (mut sent, mut under_way) = (0_u64, 0_usize);
        loop {
            let now = Instant::now();
            let goes_on = meter.goes_on(now)?;
            if !goes_on && under_way == 0 {
                return Ok(());
            }
            if goes_on && now >= next_due {
                self.due[self.next].push_back(next_due);
                self.connections[self.next].send(1)?;
                self.next = (self.next + 1) % self.connections.len();
                under_way += 1;
                sent += 1;
                next_due = start + Duration::from_nanos(sent * 1_000_000_000 / self.rate);
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Token(index) = event.token();
                let messages = self.connections[index].receive(&mut self.buffer)?;
                under_way -= messages;
                let now = Instant::now();
                for due in self.due[index].drain(..messages) {
                    meter.record(due, now, 1);
                }
                self.connections[index].flush()?;
            }
        }
    }
}
