//! Connections whose messages are compressed: what a server makes of one is learned from its first answer.

use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Poll, Token};
use peers::deflated;
use peers::frames::{Frames, MOST_COMPRESSED};
use peers::handshake::Request;

use crate::answers::{Answers, Compressed};
use crate::connection::{Connection, keys};
use crate::{PATIENCE, Run, dial};

/// A connection that has not had its first answer in full.
struct Learning {
    stream: TcpStream,
    text: Rc<str>,
    outgoing: Rc<Frames>,
    first: Vec<u8>,
}

/// Opens a scenario's connections, and has one message there and back on each.
pub(crate) fn open(poll: &mut Poll, run: &Run) -> io::Result<Vec<Connection>> {
    let scenario = &run.scenario;
    let message = |(number, key): (u32, [u8; 4])| {
        let text = deflated::json(number, scenario.size);
        let payload = deflated::compress(text.as_bytes())?;
        let outgoing = Frames::compressed(scenario.opcode, &payload, Some(key), scenario.burst());
        let outgoing = outgoing.ok_or_else(|| io::Error::other(format!("more than {MOST_COMPRESSED} bytes")))?;
        Ok((Rc::from(text), Rc::new(outgoing)))
    };
    let messages: Vec<(Rc<str>, Rc<Frames>)> = (0..).zip(keys()).map(message).collect::<io::Result<_>>()?;
    let request = Request::with_deflate(&run.addr.to_string());
    let streams = dial::open_all(poll, run.addr, request, scenario.connections)?;
    let learning = streams.into_iter().zip(messages.iter().cycle()).map(|(stream, (text, outgoing))| {
        let mut learning = Learning { stream, text: Rc::clone(text), outgoing: Rc::clone(outgoing), first: Vec::new() };
        let frame = learning.outgoing.piece(0, learning.outgoing.frame_len());
        match learning.stream.write(frame)? {
            written if written == frame.len() => Ok(Some(learning)),
            _ => Err(io::Error::other("the first message did not fit the socket")),
        }
    });
    let mut learning: Vec<Option<Learning>> = learning.collect::<io::Result<_>>()?;

    let mut connections: Vec<Option<Connection>> = learning.iter().map(|_| None).collect();
    let mut events = Events::with_capacity(1024);
    let mut last_answer = Instant::now();
    while learning.iter().any(Option::is_some) {
        poll.poll(&mut events, Some(PATIENCE))?;
        for event in &events {
            let Token(index) = event.token();
            let Some(mut open) = learning[index].take() else { continue };
            match open.receive(run)? {
                Some(answers) => {
                    last_answer = Instant::now();
                    connections[index] = Some(Connection::new(open.stream, &open.outgoing, answers));
                }
                None => learning[index] = Some(open),
            }
        }
        if last_answer.elapsed() > PATIENCE {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("no first answer for {PATIENCE:?}")));
        }
    }
    Ok(connections.into_iter().flatten().collect())
}

impl Learning {
    /// The answers to come, if the first is there in full and right.
    fn receive(&mut self, run: &Run) -> io::Result<Option<Answers>> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(read) => self.first.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let answers = Compressed::learn(run.scenario.opcode, &self.text, &self.first)?;
        Ok(answers.map(|answers| Answers::Compressed(Box::new(answers))))
    }
}
