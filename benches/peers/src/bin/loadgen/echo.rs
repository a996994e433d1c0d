//! A closed loop: each connection sends a message for each that came back.

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use peers::report::{Load, Outcome};
use peers::scenario::Kind;

use crate::Run;
use crate::connection::{BUFFER, Connection};
use crate::deflate;
use crate::meter::Meter;

/// Messages that were sent together and are not all back yet.
struct Sent {
    at: Instant,
    count: usize,
}

pub(crate) fn run(run: &Run, in_flight: usize) -> Result<Outcome, Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut connections = match run.scenario.kind {
        Kind::Deflate { .. } => deflate::open(&mut poll, run)?,
        _ => Connection::open(&mut poll, run, 0)?,
    };
    let answer_bytes = connections.iter().map(|connection| connection.answer_len() as f64).sum::<f64>();
    let answer_bytes = answer_bytes / connections.len() as f64;
    let mut sent: Vec<VecDeque<Sent>> = connections.iter().map(|_| VecDeque::new()).collect();
    let mut meter = Meter::new(run)?;
    for (connection, sent) in connections.iter_mut().zip(&mut sent) {
        sent.push_back(Sent { at: Instant::now(), count: in_flight });
        connection.send(in_flight)?;
    }
    let mut buffer = vec![0; BUFFER];
    let mut events = Events::with_capacity(1024);
    while meter.goes_on(Instant::now())? {
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let Token(index) = event.token();
            let connection = &mut connections[index];
            let messages = connection.receive(&mut buffer)?;
            if messages > 0 {
                let now = Instant::now();
                account(&mut sent[index], messages, now, &mut meter);
                sent[index].push_back(Sent { at: now, count: messages });
            }
            connection.send(messages)?;
        }
    }
    Ok(Outcome::Load(Load { answer_bytes: Some(answer_bytes), ..meter.finish()? }))
}

/// Notes `messages` answers to the oldest of what was sent.
fn account(sent: &mut VecDeque<Sent>, mut messages: usize, now: Instant, meter: &mut Meter) {
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
