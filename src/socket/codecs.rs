//! The compressors that all blocking sockets share.

use std::sync::{Mutex, PoisonError};

use crate::protocol::deflate::Codec;
use crate::transport::endpoint::Endpoint;

/// At most 4 compressors are kept while no thread uses them. Larger keeps more memory; smaller allocates more often
/// where many threads compress at the same time.
const MAX_IDLE: usize = 4;

static IDLE: Mutex<Vec<Codec>> = Mutex::new(Vec::new());

/// Calls `work` with a codec, for one step only: a socket that waits for its peer, as most do, holds none.
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
