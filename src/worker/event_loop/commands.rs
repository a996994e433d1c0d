//! Executes the commands in the inbox. All frames for one connection are written together.

use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{self, FrameHeader};
use crate::protocol::mask;
use crate::transport::chunk::Chunk;
use crate::worker::connection::context::WorkerContext;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::by_connection::{CommandChain, CommandsByConnection, END};
use crate::worker::event_loop::direct::Frames;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::handle::inbox::{Command, CommandQueue};
use crate::worker::slab::Key;

impl<D: Delivery> Worker<D> {
    /// Takes over new connections, and executes the commands in the inbox.
    #[inline]
    pub(super) fn drain_inbox(&mut self) {
        if self.context.inbox.has_commands() {
            let shutdown = self.shutdown;
            self.take_commands();
            if self.shutdown != shutdown && self.context.inbox.has_commands() {
                // The closes of the shutdown that has begun, behind what other threads have sent.
                self.take_commands();
            }
        }
    }

    #[inline(never)]
    fn take_commands(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        self.context.inbox.take(&mut queue);
        self.register_new();
        if queue.left_out > 0 {
            let left_out = queue.left_out;
            self.for_each(|driver| driver.context.count_dropped(driver.info(), left_out));
        }
        self.sort(&mut queue);
        queue.forget_payloads(std::mem::take(&mut self.context.released_payloads));
        queue.recycle(&self.context.inbox.budget);
        self.queue = queue;
    }

    /// Links the commands for each connection into a chain, in order, and executes one chain after the other. A command
    /// for all connections is executed after the commands before it and before those after it.
    fn sort(&mut self, queue: &mut CommandQueue) {
        if let ([command], bytes) = (&mut queue.commands[..], &queue.bytes)
            && let Some(to) = target(command)
        {
            // A single command needs no sorting. It is the usual case on a server that sleeps between messages.
            self.send_to_many();
            return self.execute_single(to, command, bytes);
        }
        let mut by_connection = std::mem::take(&mut self.by_connection);
        by_connection.next.clear();
        by_connection.next.resize(queue.commands.len(), END);
        for index in 0..queue.commands.len() {
            match target(&queue.commands[index]) {
                Some(key) => {
                    self.send_to_many();
                    if self.slots.get_mut(key).is_some() {
                        by_connection.add(key, index as u32);
                    }
                }
                None => {
                    self.run_chains(&mut by_connection, queue);
                    self.execute_global(&mut queue.commands[index]);
                }
            }
        }
        self.run_chains(&mut by_connection, queue);
        self.by_connection = by_connection;
    }

    /// Executes the chains, each in one drive of its connection and with one write.
    fn run_chains(&mut self, by_connection: &mut CommandsByConnection, queue: &mut CommandQueue) {
        by_connection.indices.clear();
        for CommandChain { to, first, .. } in by_connection.chains.drain(..) {
            if by_connection.next[first as usize] == END {
                self.execute_single(to, &mut queue.commands[first as usize], &queue.bytes);
                continue;
            }
            self.drive(to, |driver, _| {
                let mut at = first;
                while at != END {
                    driver.execute(&mut queue.commands[at as usize], &queue.bytes);
                    at = by_connection.next[at as usize];
                }
                driver.flush(&[]);
            });
        }
    }

    /// Executes a command that is the only one for its connection. Frames are written from the queue without a copy, if
    /// nothing else waits at the connection.
    fn execute_single(&mut self, to: Key, command: &mut Command, bytes: &[u8]) {
        let Command::Send { start, end, payload: None, compression, messages, .. } = *command else {
            return self.drive_for(to, command, bytes);
        };
        let (messages, posted) = (u64::from(messages), end - start);
        let compressible = compression == Compression::Auto;
        let frames = Frames { bytes: &bytes[start..end], messages, posted, compressible };
        if !self.try_write_direct(to, frames) {
            self.drive_for(to, command, bytes);
        }
    }

    /// Drives a connection for one command.
    fn drive_for(&mut self, to: Key, command: &mut Command, bytes: &[u8]) {
        self.drive(to, |driver, _| {
            driver.execute(command, bytes);
            driver.flush(&[]);
        });
    }

    /// Sends broadcasts, and what was published to topics: behind what was posted before, and ahead of what was posted later.
    /// Only one of the two has something, unless a handler used both.
    #[inline]
    pub(super) fn send_to_many(&mut self) {
        self.send_broadcasts();
        self.serve_topics();
    }

    /// Executes a command that is not for one connection.
    pub(super) fn execute_global(&mut self, command: &mut Command) {
        match command {
            Command::Broadcast(message) => {
                self.serve_topics();
                self.context.broadcasts.push(message.clone());
            }
            Command::List(answer) => {
                // The thread that asked may not wait any more.
                let _ = answer.send(self.summaries());
            }
            Command::Topic { topic, upto } => {
                self.send_broadcasts();
                let stands_for_later = topic.announcement_taken(self.context.handle.index);
                let upto = if stands_for_later { topic.last() } else { *upto };
                self.context.topics.set_due(topic, upto);
            }
            Command::TopicGap { topic, missed } => self.tell_gaps(topic.as_ref(), *missed),
            Command::SweepTopics => self.begin_sweep(),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            Command::Drain(_) | Command::FinishDrain(_) | Command::Shutdown(_) if self.is_handing_over() => {
                self.put_off(command);
            }
            Command::Drain(order) => {
                self.send_to_many();
                self.begin_drain(order);
            }
            Command::FinishDrain(deadline) => self.finish_drain(*deadline),
            Command::Shutdown(deadline) => {
                self.send_to_many();
                self.begin_shutdown(*deadline);
            }
            #[cfg(all(target_os = "linux", feature = "handover"))]
            Command::HandOver(task) => self.hand_over = Some(task.clone()),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            Command::Hold(arrivals) => self.hold_all(arrivals),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            Command::Prepare(preparation) => self.prepare_held(preparation),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            Command::Serve(_until_served) => self.serve_held(),
            Command::ReceiverDropped { .. } => {
                self.send_to_many();
                self.for_each(|driver| {
                    if driver.close_if_receiver_dropped() {
                        driver.flush(&[]);
                    }
                });
            }
            // `Delivery::resume` is called in every iteration of the event loop.
            _ => {}
        }
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Executes one command for this connection.
    fn execute(&mut self, command: &mut Command, bytes: &[u8]) {
        match command {
            Command::Send { start, end, payload, compression, messages, .. } => {
                let frames = &bytes[*start..*end];
                let payload = payload.as_mut().map(|payload| {
                    self.context.release_payload(payload.memory());
                    payload.take()
                });
                self.state.posted += frames.len() + payload.as_ref().map_or(0, |payload| payload.as_slice().len());
                if self.conn.can_send() {
                    self.state.counts.sent += u64::from(*messages);
                    match payload {
                        None => self.push_frames(frames, *compression),
                        Some(payload) => self.push_with_payload(frames, payload, *compression),
                    }
                } else {
                    self.active().hold_posted(frames, payload, *compression, *messages);
                }
            }
            Command::SendShared { frame, .. } => {
                self.state.posted += frame.plain().len();
                self.active().send_shared(frame);
            }
            Command::SendLatest { announcement, .. } => self.active().latest_announced(*announcement),
            Command::SendControl { start, end, .. } => {
                if self.conn.can_send_control() {
                    self.context.output.cork().extend_from_slice(&bytes[*start..*end]);
                }
            }
            Command::SendPart { part, .. } => {
                if let Some(part) = part.take() {
                    self.context.release_payload(part.payload.memory());
                    self.send_part(part);
                }
            }
            Command::GiveUpMessage { message, .. } => self.give_up_message(message),
            Command::Close { frame, .. } => {
                self.active().start_close(frame.as_deref());
            }
            Command::Disconnect { .. } => self.fail_slow_reader(),
            Command::Abort { .. } => self.active().abort(),
            Command::CloseSeen { .. } => self.close_seen(),
            Command::Resume { .. } => self.state.again = true,
            Command::ReceiverDropped { .. } => {
                self.close_if_receiver_dropped();
            }
            Command::Subscribe { reservation, .. } => {
                // Before it is counted, so that none is refused because another counts twice.
                if let Some(peer) = &self.conn.peer {
                    peer.shared.end_subscribing();
                }
                self.active().join(std::mem::take(&mut **reservation));
            }
            Command::Unsubscribe { topic, upto, .. } => self.active().unsubscribe(topic, *upto),
            Command::GapTold { .. } => self.gap_told(),
            Command::Broadcast(_)
            | Command::List(_)
            | Command::Topic { .. }
            | Command::TopicGap { .. }
            | Command::SweepTopics
            | Command::Drain(_)
            | Command::FinishDrain(_)
            | Command::Shutdown(_) => {}
            #[cfg(all(target_os = "linux", feature = "handover"))]
            Command::HandOver(_) | Command::Hold(_) | Command::Prepare(_) | Command::Serve(_) => {}
        }
    }

    /// Starts the closing handshake if the last receiver of the connection's events was dropped. Returns whether it
    /// did.
    fn close_if_receiver_dropped(&mut self) -> bool {
        self.app.as_ref().is_some_and(|app| self.delivery.receiver_dropped(app))
            && self.active().start_close(Some(&CloseFrame::going_away()))
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Sends a frame that another thread encoded, as a compressed one. Its payload follows its header, or is in
    /// `payload`. Returns `false` if compression was not negotiated or would save too little.
    fn compress(&mut self, frame: &[u8], payload: Option<&[u8]>) -> bool {
        if !self.conn.endpoint.connection.compresses() {
            return false;
        }
        let Ok(Some((header, size))) = FrameHeader::parse(frame) else { return false };
        let payload = payload.unwrap_or(&frame[size..]);
        if !self.conn.endpoint.connection.is_worthwhile(payload) {
            return false;
        }
        let (endpoint, WorkerContext { output, codec, .. }) = (&mut self.conn.endpoint, &mut *self.context);
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

    /// Sends a frame that another thread encoded, whose payload is separate from its header.
    fn push_with_payload(&mut self, header: &[u8], payload: Chunk, compression: Compression) {
        if compression == Compression::Never || !self.compress(header, Some(payload.as_slice())) {
            self.context.output.cork().extend_from_slice(header);
            self.context.output.push_chunk(payload);
        }
    }

    /// Sends consecutive frames that another thread encoded.
    fn push_frames(&mut self, frames: &[u8], compression: Compression) {
        if compression == Compression::Never || !self.conn.endpoint.connection.compresses() {
            return self.context.output.cork().extend_from_slice(frames);
        }
        for (_, frame, _) in frame::whole_frames(frames) {
            if !self.compress(frame, None) {
                self.context.output.cork().extend_from_slice(frame);
            }
        }
    }
}

/// Returns the connection that a command is for.
fn target(command: &Command) -> Option<Key> {
    match command {
        Command::Send { to, .. }
        | Command::SendShared { to, .. }
        | Command::SendLatest { to, .. }
        | Command::SendControl { to, .. }
        | Command::SendPart { to, .. }
        | Command::GiveUpMessage { to, .. }
        | Command::Close { to, .. }
        | Command::Subscribe { to, .. }
        | Command::Unsubscribe { to, .. }
        | Command::GapTold { to }
        | Command::Disconnect { to }
        | Command::Abort { to }
        | Command::CloseSeen { to } => Some(*to),
        Command::Resume { to } | Command::ReceiverDropped { to } => *to,
        Command::Broadcast(_)
        | Command::List(_)
        | Command::Topic { .. }
        | Command::TopicGap { .. }
        | Command::SweepTopics
        | Command::Drain(_)
        | Command::FinishDrain(_)
        | Command::Shutdown(_) => None,
        #[cfg(all(target_os = "linux", feature = "handover"))]
        Command::HandOver(_) | Command::Hold(_) | Command::Prepare(_) | Command::Serve(_) => None,
    }
}
