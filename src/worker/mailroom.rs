//! What other threads ask, carried out: each connection's share of the inbox leaves in one write.

use crate::protocol::close::CloseCause;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::FrameHeader;
use crate::protocol::mask;
use crate::worker::context::Context;
use crate::worker::delivery::Delivery;
use crate::worker::inbox::{Command, Queue};
use crate::worker::slots::{Key, NameMap};
use crate::worker::turn::Turn;
use crate::worker::{Worker, going_away};

/// The end of a chain of commands.
const END: u32 = u32::MAX;

/// What sorting works with, kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// The connections that have commands.
    chains: Vec<Chain>,
    /// Their places there. A table of all connections would be larger, and is not needed as often.
    places: NameMap<Key, usize>,
    /// Behind each command the next for the same connection.
    next: Vec<u32>,
}

/// The commands for one connection.
#[derive(Debug)]
struct Chain {
    to: Key,
    first: u32,
    last: u32,
}

impl Mail {
    fn add(&mut self, to: Key, command: u32) {
        let place = *self.places.entry(to).or_insert(self.chains.len());
        match self.chains.get_mut(place) {
            Some(chain) => {
                self.next[chain.last as usize] = command;
                chain.last = command;
            }
            None => self.chains.push(Chain { to, first: command, last: command }),
        }
    }
}

impl<D: Delivery> Worker<D> {
    /// Takes over new connections, takes the inbox and carries out what is in it.
    #[inline]
    pub(super) fn read_mail(&mut self) {
        if self.context.inbox.has_mail() {
            self.empty_inbox();
        }
    }

    #[inline(never)]
    fn empty_inbox(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        self.context.inbox.take(&mut queue);
        self.adopt();
        self.sort(&mut queue);
        queue.recycle();
        self.queue = queue;
    }

    /// Chains the commands for each connection, in order, and serves one connection after the other. A command for all
    /// comes behind those before it and ahead of those after it.
    fn sort(&mut self, queue: &mut Queue) {
        if let ([command], bytes) = (&mut queue.commands[..], &queue.bytes)
            && let Some(to) = addressee(command)
        {
            // Alone, as most are on a server that sleeps between messages: there is nothing to sort.
            self.send_broadcasts();
            return self.carry_out_lone(to, command, bytes);
        }
        let mut mail = std::mem::take(&mut self.mail);
        mail.next.clear();
        mail.next.resize(queue.commands.len(), END);
        for index in 0..queue.commands.len() {
            match addressee(&queue.commands[index]) {
                Some(key) => {
                    if !self.context.broadcasts.is_empty() {
                        self.send_broadcasts();
                    }
                    if self.slots.get_mut(key).is_some() {
                        mail.add(key, index as u32);
                    }
                }
                None => {
                    self.serve(&mut mail, queue);
                    self.obey(&queue.commands[index]);
                }
            }
        }
        self.serve(&mut mail, queue);
        self.mail = mail;
    }

    /// Carries out what is chained, a connection's share in one turn and one write.
    fn serve(&mut self, mail: &mut Mail, queue: &mut Queue) {
        mail.places.clear();
        for Chain { to, first, .. } in mail.chains.drain(..) {
            if mail.next[first as usize] == END {
                self.carry_out_lone(to, &mut queue.commands[first as usize], &queue.bytes);
                continue;
            }
            self.turn(to, |turn, _| {
                let mut at = first;
                while at != END {
                    turn.carry_out(&mut queue.commands[at as usize], &queue.bytes);
                    at = mail.next[at as usize];
                }
                turn.flush(&mut []);
            });
        }
    }

    /// Carries out the only command for a connection. Most are answers, and leave from where they lie.
    fn carry_out_lone(&mut self, to: Key, command: &mut Command, bytes: &[u8]) {
        let Command::Frames { start, end, count, .. } = *command else {
            return self.carry_out_in_turn(to, command, bytes);
        };
        let frames = &bytes[start..end];
        match self.write_joined(to, frames, count as usize) {
            Some(Ok([])) => {
                if let Some(peer) = self.slots.get_mut(to).and_then(|conn| conn.core.peer.as_ref()) {
                    peer.shared.settle(frames.len(), 0, 0);
                }
            }
            Some(rest) => self.turn(to, |turn, _| {
                turn.posted += frames.len();
                turn.context.tally.sent += if rest.is_ok() { u64::from(count) } else { 0 };
                turn.send_rest(rest);
            }),
            None => self.carry_out_in_turn(to, command, bytes),
        }
    }

    fn carry_out_in_turn(&mut self, to: Key, command: &mut Command, bytes: &[u8]) {
        self.turn(to, |turn, _| {
            turn.carry_out(command, bytes);
            turn.flush(&mut []);
        });
    }

    /// Commands that are for no connection in particular.
    fn obey(&mut self, command: &Command) {
        match command {
            Command::Broadcast(frame) => self.context.broadcasts.push(frame.clone()),
            Command::Shutdown(deadline) => {
                self.send_broadcasts();
                self.begin_shutdown(*deadline);
            }
            Command::Orphaned => {
                self.send_broadcasts();
                self.for_each(|turn| {
                    if turn.app.as_ref().is_some_and(|app| turn.delivery.is_orphaned(app)) {
                        turn.core.start_close(turn.context, Some(&going_away()));
                        turn.flush(&mut []);
                    }
                });
            }
            // Carried out where it is seen: `resume` asks for what may go on in every turn.
            _ => {}
        }
    }
}

impl<D: Delivery> Turn<'_, D> {
    /// Carries out one command for this connection.
    fn carry_out(&mut self, command: &mut Command, bytes: &[u8]) {
        match command {
            Command::Frames { start, end, count, .. } => {
                self.posted += *end - *start;
                if self.core.can_send() {
                    self.context.tally.sent += u64::from(*count);
                    self.push_frames(&bytes[*start..*end]);
                }
            }
            Command::Large { start, end, payload, .. } => {
                let payload = payload.take();
                self.posted += *end - *start + payload.as_slice().len();
                if self.core.can_send() {
                    self.context.tally.sent += 1;
                    let header = &bytes[*start..*end];
                    if !self.compress(header, Some(payload.as_slice())) {
                        self.context.output.cork().extend_from_slice(header);
                        self.context.output.push_chunk(payload);
                    }
                }
            }
            Command::Uncompressed { start, end, payload, .. } => {
                let payload = payload.take();
                self.posted += *end - *start + payload.as_slice().len();
                if self.core.can_send() {
                    self.context.tally.sent += 1;
                    self.context.output.cork().extend_from_slice(&bytes[*start..*end]);
                    self.context.output.push_chunk(payload);
                }
            }
            Command::Shared { frame, .. } => {
                self.posted += frame.plain().len();
                self.core.send_shared(self.context, frame);
            }
            Command::Control { start, end, .. } => {
                if self.core.can_send() {
                    self.context.output.cork().extend_from_slice(&bytes[*start..*end]);
                }
            }
            Command::Close { frame, .. } => {
                self.core.start_close(self.context, frame.as_deref());
            }
            Command::Abort { .. } => {
                self.core.endpoint.stream.reset_on_drop();
                self.lose("aborted", CloseCause::Aborted);
            }
            Command::Answered { .. } => self.answered(),
            Command::Broadcast(_) | Command::Resume | Command::Orphaned | Command::Shutdown(_) => {}
        }
    }
}

impl<D: Delivery> Turn<'_, D> {
    /// Sends a frame that another thread encoded, its payload behind its header or apart, as a compressed one; `false` if
    /// that was not negotiated.
    fn compress(&mut self, frame: &[u8], payload: Option<&[u8]>) -> bool {
        if !self.core.endpoint.connection.compresses() {
            return false;
        }
        let Ok(Some((header, size))) = FrameHeader::parse(frame) else { return false };
        let payload = payload.unwrap_or(&frame[size..]);
        if !self.core.endpoint.connection.is_worthwhile(payload) {
            return false;
        }
        let (endpoint, Context { output, codec, .. }) = (&mut self.core.endpoint, &mut *self.context);
        match header.mask {
            None => endpoint.push(output, codec, header.opcode, payload, Compression::Auto),
            Some(key) => {
                let mut plain = payload.to_vec();
                mask::apply(&mut plain, key);
                endpoint.push(output, codec, header.opcode, &plain, Compression::Auto);
            }
        }
        true
    }

    /// Sends frames that another thread encoded, one behind the other.
    fn push_frames(&mut self, mut frames: &[u8]) {
        if !self.core.endpoint.connection.compresses() {
            return self.context.output.cork().extend_from_slice(frames);
        }
        while let Ok(Some((header, size))) = FrameHeader::parse(frames) {
            let (frame, behind) = frames.split_at(size + header.payload_len as usize);
            if !self.compress(frame, None) {
                self.context.output.cork().extend_from_slice(frame);
            }
            frames = behind;
        }
    }
}

/// The connection that a command is for.
fn addressee(command: &Command) -> Option<Key> {
    match command {
        Command::Frames { to, .. }
        | Command::Large { to, .. }
        | Command::Uncompressed { to, .. }
        | Command::Shared { to, .. }
        | Command::Control { to, .. }
        | Command::Close { to, .. }
        | Command::Abort { to }
        | Command::Answered { to } => Some(*to),
        Command::Broadcast(_) | Command::Resume | Command::Orphaned | Command::Shutdown(_) => None,
    }
}
