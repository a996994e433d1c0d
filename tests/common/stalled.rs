//! Clients that do not read.

use std::time::Duration;

use threadbare::{Config, Peer, Server};

use super::app::{App, echo, fill_send_queue};
use super::servers::Mode;
use super::{Client, Frame};

/// The high-water mark of [`config`].
pub const HIGH_WATER: usize = 64 << 10;

/// Larger than what the kernel may still accept, so that a full queue stays above the high-water mark.
pub const SIZE: usize = 1 << 20;

/// A low high-water mark, and no deadline for a client that does not read.
pub fn config() -> Config {
    Config::default()
        .max_write_buffer_size(HIGH_WATER)
        .max_event_buffer_size(1)
        .write_timeout(Duration::from_secs(3600))
}

/// A connection whose client does not read, and another connection of the same worker.
pub struct Stalled {
    pub app: App,
    pub client: Client,
    pub peer: Peer,
    pub other: (Peer, Client),
    /// The messages that fill the queue.
    pub filled: usize,
    /// Clients of other workers.
    pub elsewhere: Vec<Client>,
}

impl Stalled {
    pub fn new(mode: Mode, workers: usize, config: Config) -> Stalled {
        let app = App::start(mode, Server::builder().workers(workers).config(config), echo);
        let client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let worker = |peer: &Peer| peer.id().to_string().split('.').next().map(str::to_owned);
        let mut elsewhere = Vec::new();
        loop {
            let other_client = Client::open(app.addr);
            let other = app.opened();
            if worker(&other) == worker(&peer) {
                return Stalled { app, client, peer, other: (other, other_client), filled: 0, elsewhere };
            }
            elsewhere.push(other_client);
        }
    }

    /// Fills the queue up to the high-water mark.
    pub fn filled(mut self) -> Stalled {
        let (other, client) = &mut self.other;
        self.filled = fill_send_queue(&self.peer, SIZE, (other, client));
        assert!(self.peer.queued_bytes() >= HIGH_WATER, "{:?}", self.peer.stats());
        self
    }

    /// Lets the client receive the messages that filled the queue.
    pub fn drain(&mut self) {
        for number in 0..self.filled {
            assert!(self.client.expect_frame() == Frame::binary(&vec![number as u8; SIZE]), "message {number}");
        }
    }
}

/// Calls `run` with each mode, with one worker and with two.
pub fn each_setting(mut run: impl FnMut(Mode, usize)) {
    for mode in Mode::ALL {
        for workers in [1, 2] {
            run(mode, workers);
        }
    }
}
