//! An open loop: messages are due at a fixed rate, whether or not the server keeps up.
//!
//! A latency counts from when the message was due, not from when it was sent. So a server that stalls is charged for the
//! messages that could not be sent meanwhile (no "coordinated omission").

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::Run;
use crate::connection::{BUFFER, Connection};
use crate::meter::Meter;
use crate::neighbours::Neighbours;
use crate::slices::Traffic;

pub(crate) struct OpenLoop {
    poll: Poll,
    rate: u64,
    connections: Vec<Connection>,
    /// For each connection, when the messages in flight were due.
    due: Vec<VecDeque<Instant>>,
    /// The connection that sends next.
    next: usize,
    buffer: Vec<u8>,
    neighbours: Option<Neighbours>,
}

impl OpenLoop {
    pub(crate) fn open(run: &Run, rate: u64) -> Result<OpenLoop, Box<dyn Error>> {
        let mut poll = Poll::new()?;
        let connections = Connection::open(&mut poll, run, 0)?;
        let due = connections.iter().map(|_| VecDeque::new()).collect();
        let neighbours = run.neighbours.then(|| Neighbours::open(&run.target)).transpose()?;
        Ok(OpenLoop { poll, rate, connections, due, next: 0, buffer: vec![0; BUFFER], neighbours })
    }
}

impl Traffic for OpenLoop {
    fn neighbours_answered(&self) -> Option<u64> {
        Some(self.neighbours.as_ref()?.answered())
    }

    fn run_slice(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.start_slice()?;
        }
        meter.start_slice();
        let mut events = Events::with_capacity(1024);
        let start = Instant::now();
        let mut next_due = start;
        let (mut sent, mut outstanding) = (0_u64, 0_usize);
        loop {
            let now = Instant::now();
            let is_running = meter.is_running(now)?;
            if !is_running && outstanding == 0 {
                return Ok(());
            }
            if is_running && now >= next_due {
                self.due[self.next].push_back(next_due);
                self.connections[self.next].send(1)?;
                self.next = (self.next + 1) % self.connections.len();
                outstanding += 1;
                sent += 1;
                next_due = start + Duration::from_nanos(sent * 1_000_000_000 / self.rate);
            }
            if let Some(neighbours) = &mut self.neighbours {
                neighbours.turn(now, &mut self.buffer)?;
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Token(index) = event.token();
                let messages = self.connections[index].receive(&mut self.buffer)?;
                outstanding -= messages;
                let now = Instant::now();
                for due in self.due[index].drain(..messages) {
                    meter.record(due, now, 1);
                }
                self.connections[index].flush()?;
            }
        }
    }
}
