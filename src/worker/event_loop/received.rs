//! What is done with each frame that a drive decoded.

use crate::protocol::Received;
use crate::protocol::fragment::FragmentRef;
use crate::transport::buffer::Input;
use crate::worker::connection::active::InputUse;
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::{Delivery, Incoming, IncomingFragment};
use crate::worker::event_loop::drive::Driver;

/// A fragment of at least 64 KiB goes to the application in the receive buffer that it is in. Larger copies more; smaller has
/// more buffers on their way for as many bytes.
const MIN_OFFERED_SIZE: usize = 64 << 10;

impl<D: Delivery> Driver<'_, D> {
    pub(super) fn dispatch(&mut self, received: Received<'_>) {
        match received {
            Received::Nothing => {}
            Received::Message(message) => self.deliver(Incoming::Borrowed(message)),
            Received::Assembled(message) => self.deliver(Incoming::Assembled(message)),
            Received::Fragment(fragment) => self.deliver_fragment(IncomingFragment::Borrowed(fragment)),
            Received::OwnFragment(fragment) => self.deliver_fragment(IncomingFragment::Owned(fragment)),
            Received::Ping(payload) => self.ping(&payload),
            Received::Pong(payload) => self.pong(&payload),
            Received::Close(frame) => self.peer_closed(frame),
        }
    }

    fn deliver(&mut self, message: Incoming<'_>) {
        if self.receives() {
            self.deliver_message(message);
        } else if let Incoming::Assembled(message) = message {
            self.context.output.pool.give(message.into_buffer());
        }
    }

    /// Delivers a fragment behind which nothing is left of the input. If it fills much of the receive buffer, that is offered
    /// with it.
    pub(super) fn deliver_at_end(&mut self, fragment: FragmentRef<'_>) {
        let is_large = fragment.len() >= MIN_OFFERED_SIZE.max(self.context.config.read_buffer_size / 4);
        if is_large && self.state.input == InputUse::Offered {
            self.deliver_fragment(IncomingFragment::Offered(fragment));
        } else {
            self.deliver_fragment(IncomingFragment::Borrowed(fragment));
        }
    }

    /// Gives the receive buffer to the delivery, with the fragment that was delivered last, and has another one in its place.
    #[cold]
    pub(super) fn give_input(&mut self, input: &mut Input) {
        let kept = self.context.inputs.exchange(input, self.context.config.read_buffer_size);
        if let Some(app) = self.app {
            self.delivery.keep_input(app, kept);
        }
    }

    fn deliver_fragment(&mut self, fragment: IncomingFragment<'_>) {
        if !self.receives() {
            if let IncomingFragment::Owned(fragment) = fragment {
                self.context.codec.reuse(fragment);
            }
            return;
        }
        self.state.counts.received += u64::from(fragment.as_ref().is_last());
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.fragment(app, &mut socket, fragment);
        }
    }

    fn ping(&mut self, payload: &[u8]) {
        // RFC 6455 5.5.1 forbids only data frames behind our close frame, and 5.5.2 excuses from an answer only behind the
        // peer's.
        if !matches!(self.conn.phase, Phase::Open | Phase::Closing) {
            return;
        }
        // RFC 6455 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response". 5.5.3 allows
        // to answer only the most recent one: the others must not fill the memory of a peer that does not read.
        if self.conn.endpoint.unheld() > 0 && self.active().is_socket_behind() {
            self.conn.endpoint.keep_ping(payload);
        } else {
            self.active().answer_ping(payload);
        }
        if self.conn.phase != Phase::Open {
            return;
        }
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.ping(app, &mut socket, payload);
        }
    }

    fn pong(&mut self, payload: &[u8]) {
        // The application was told the end of the others.
        if !matches!(self.conn.phase, Phase::Open | Phase::Closing) {
            return;
        }
        self.active().record_round_trip(payload);
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.pong(app, &mut socket, payload);
        }
    }
}
