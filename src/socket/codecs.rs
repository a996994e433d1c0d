//! The compressors of all blocking sockets.

use std::sync::{Mutex, PoisonError};

use crate::protocol::deflate::Codec;
use crate::transport::endpoint::Endpoint;

/// As many are kept for the next message; more are only made while so many threads are at it at once.
const MAX_IDLE: usize = 4;

static IDLE: Mutex<Vec<Codec>> = Mutex::new(Vec::new());

/// Lets `work` do one step with a codec: a socket that waits for its peer, as most do, has none.
pub(super) fn with_codec<S, R>(endpoint: &mut Endpoint<S>, work: impl FnOnce(&mut Endpoint<S>, &mut Codec) -> R) -> R {
    if !endpoint.connection.compresses() {
        return work(endpoint, &mut Codec::new());
    }
    let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut codec = idle().pop().unwrap_or_default();
    let result = work(endpoint, &mut codec);
    codec.shed();
    let mut idle = idle();
    if idle.len() < MAX_IDLE && !codec.is_empty() {
        idle.push(codec);
    }
    result
}
