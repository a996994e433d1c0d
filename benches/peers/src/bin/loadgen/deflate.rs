//! Connections whose messages are compressed. The first reply shows how the server compresses the message.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Instant;

use mio::{Events, Poll, Token};
use peers::deflated;
use peers::frames::{Frames, MAX_COMPRESSED};
use peers::handshake::Request;
use peers::tls::Stream;

use crate::connection::{Connection, keys};
use crate::dial::Dialer;
use crate::replies::{Compressed, Replies};
use crate::{Run, TIMEOUT, dial};

/// A connection whose first reply is not complete.
struct AwaitingReply {
    stream: Stream,
    text: Rc<str>,
    outgoing: Rc<Frames>,
    first: Vec<u8>,
}

/// Opens the scenario's connections, and exchanges one message on each.
pub(crate) fn open(poll: &mut Poll, run: &Run) -> io::Result<Vec<Connection>> {
    let scenario = &run.scenario;
    let message = |(number, key): (u32, [u8; 4])| {
        let text = deflated::json(number, scenario.size);
        let payload = deflated::compress(text.as_bytes())?;
        let outgoing = Frames::compressed(scenario.opcode, &payload, Some(key), scenario.burst());
        let outgoing = outgoing.ok_or_else(|| io::Error::other(format!("more than {MAX_COMPRESSED} bytes")))?;
        Ok((Rc::from(text), Rc::new(outgoing)))
    };
    let messages: Vec<(Rc<str>, Rc<Frames>)> = (0..).zip(keys()).map(message).collect::<io::Result<_>>()?;
    let request = Request::with_deflate(&run.target.host());
    let streams = dial::open_all(poll, &Dialer::new(run, request)?, scenario.connections)?;
    let awaiting = streams.into_iter().zip(messages.iter().cycle()).map(|(stream, (text, outgoing))| {
        let mut awaiting =
            AwaitingReply { stream, text: Rc::clone(text), outgoing: Rc::clone(outgoing), first: Vec::new() };
        let frame = awaiting.outgoing.piece(0, awaiting.outgoing.frame_len());
        match awaiting.stream.write(frame, &mut Vec::new())? {
            written if written == frame.len() => Ok(Some(awaiting)),
            _ => Err(io::Error::other("the first message did not fit the socket")),
        }
    });
    let mut awaiting: Vec<Option<AwaitingReply>> = awaiting.collect::<io::Result<_>>()?;

    let mut connections: Vec<Option<Connection>> = awaiting.iter().map(|_| None).collect();
    let mut events = Events::with_capacity(1024);
    let mut last_reply = Instant::now();
    while awaiting.iter().any(Option::is_some) {
        poll.poll(&mut events, Some(TIMEOUT))?;
        for event in &events {
            let Token(index) = event.token();
            let Some(mut connection) = awaiting[index].take() else { continue };
            match connection.receive(run)? {
                Some(replies) => {
                    last_reply = Instant::now();
                    connections[index] = Some(Connection::new(connection.stream, &connection.outgoing, replies));
                }
                None => awaiting[index] = Some(connection),
            }
        }
        if last_reply.elapsed() > TIMEOUT {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("no first reply for {TIMEOUT:?}")));
        }
    }
    Ok(connections.into_iter().flatten().collect())
}

impl AwaitingReply {
    /// The replies to expect, once the first is complete and right.
    fn receive(&mut self, run: &Run) -> io::Result<Option<Replies>> {
        let mut chunk = [0; 4096];
        loop {
            let first = &mut self.first;
            let may_have_more = self.stream.read(&mut chunk, |read| {
                first.extend_from_slice(read);
                Ok(())
            })?;
            if !may_have_more {
                break;
            }
        }
        let replies = Compressed::from_first(run.scenario.opcode, &self.text, &self.first)?;
        Ok(replies.map(|replies| Replies::Compressed(Box::new(replies))))
    }
}
