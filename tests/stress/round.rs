//! What the threads of a round share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use threadbare::{Peer, ServerHandle};

use crate::ledger::{Instance, Ledger};
use crate::plan::Plan;

pub(crate) struct Round {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    /// Every server of the round listens here.
    pub(crate) addr: SocketAddr,
    pub(crate) ledger: Ledger,
    /// Connections for the thread that pushes.
    pub(crate) peers: Sender<(Peer, Arc<Instance>, u64)>,
    pub(crate) handle: Mutex<Option<ServerHandle>>,
    pub(crate) shouted: AtomicU64,
    progress: AtomicU64,
    next_id: AtomicU64,
    /// Ends with the round.
    pub(crate) over: Receiver<()>,
}

impl Round {
    pub(crate) fn new(
        seed: u64,
        plan: Plan,
        addr: SocketAddr,
        peers: Sender<(Peer, Arc<Instance>, u64)>,
        over: Receiver<()>,
    ) -> Round {
        Round {
            seed,
            plan,
            addr,
            ledger: Ledger::default(),
            peers,
            handle: Mutex::default(),
            shouted: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            over,
        }
    }

    /// Counts a step of a client or of the server's application.
    pub(crate) fn progress(&self) {
        self.progress.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn steps(&self) -> u64 {
        self.progress.load(Ordering::SeqCst)
    }

    /// The number of a new connection.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::SeqCst)
    }

    /// Does nothing for a time, but not after the round's end. Returns whether the round goes on.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        self.over.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}
