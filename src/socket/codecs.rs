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
    keep(codec, &mut idle());
    result
}

/// Keeps a codec for the next step of any socket, unless it has no memory or enough are kept.
fn keep(codec: Codec, idle: &mut Vec<Codec>) {
    if idle.len() < MAX_IDLE && !codec.is_empty() {
        idle.push(codec);
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use super::*;

    #[test]
    fn a_limited_number_of_compressors_is_kept() {
        let mut idle = Vec::new();
        keep(Codec::new(), &mut idle);
        assert!(idle.is_empty(), "it has no memory");
        for count in 1..=MAX_IDLE + 2 {
            let mut codec = Codec::new();
            codec.compress(&[0; 1000], 1, 15).expect("it gets smaller");
            keep(codec, &mut idle);
            assert_eq!(idle.len(), count.min(MAX_IDLE));
        }
    }
}
