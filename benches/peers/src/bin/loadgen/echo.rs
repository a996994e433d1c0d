//! A closed loop: for each reply that it receives, a connection sends a message.

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use peers::scenario::Kind;

use crate::Run;
use crate::connection::{BUFFER, Connection};
use crate::deflate;
use crate::meter::Meter;
use crate::neighbours::Neighbours;
use crate::slices::Traffic;

pub(crate) struct Echo {
    poll: Poll,
    in_flight: usize,
    connections: Vec<Connection>,
    /// For each connection, oldest first.
    sent: Vec<VecDeque<Sent>>,
    buffer: Vec<u8>,
    neighbours: Option<Neighbours>,
}

/// Messages that were sent at the same time and do not all have a reply yet.
struct Sent {
    at: Instant,
    /// How many have no reply.
    count: usize,
}

impl Echo {
    pub(crate) fn open(run: &Run, in_flight: usize) -> Result<Echo, Box<dyn Error>> {
        let mut poll = Poll::new()?;
        let connections = match run.scenario.kind {
            Kind::Deflate { .. } => deflate::open(&mut poll, run)?,
            _ => Connection::open(&mut poll, run, 0)?,
        };
        let sent = connections.iter().map(|_| VecDeque::new()).collect();
        let neighbours = run.neighbours.then(|| Neighbours::open(&run.target)).transpose()?;
        Ok(Echo { poll, in_flight, connections, sent, buffer: vec![0; BUFFER], neighbours })
    }
}

impl Traffic for Echo {
    fn run_slice(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.start_slice()?;
        }
        meter.start_slice();
        let mut outstanding = self.connections.len() * self.in_flight;
        for (connection, sent) in self.connections.iter_mut().zip(&mut self.sent) {
            sent.push_back(Sent { at: Instant::now(), count: self.in_flight });
            connection.send(self.in_flight)?;
        }
        let mut events = Events::with_capacity(1024);
        loop {
            let now = Instant::now();
            let is_running = meter.is_running(now)?;
            if !is_running && outstanding == 0 {
                return Ok(());
            }
            if let Some(neighbours) = &mut self.neighbours {
                neighbours.turn(now, &mut self.buffer)?;
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Token(index) = event.token();
                let connection = &mut self.connections[index];
                let messages = connection.receive(&mut self.buffer)?;
                let now = Instant::now();
                record_replies(&mut self.sent[index], messages, now, meter);
                if !is_running {
                    outstanding -= messages;
                } else if messages > 0 {
                    self.sent[index].push_back(Sent { at: now, count: messages });
                    connection.send(messages)?;
                }
                connection.flush()?;
            }
        }
    }

    fn neighbours_answered(&self) -> Option<u64> {
        Some(self.neighbours.as_ref()?.answered())
    }

    fn reply_bytes(&self) -> Option<f64> {
        let sum: usize = self.connections.iter().map(Connection::reply_len).sum();
        Some(sum as f64 / self.connections.len() as f64)
    }
}

/// Records `messages` replies to the oldest messages.
fn record_replies(sent: &mut VecDeque<Sent>, mut messages: usize, now: Instant, meter: &mut Meter) {
    while let Some(oldest) = sent.front_mut().filter(|_| messages > 0) {
        let count = oldest.count.min(messages);
        meter.record(oldest.at, now, count);
        messages -= count;
        oldest.count -= count;
        if oldest.count == 0 {
            sent.pop_front();
        }
    }
}
