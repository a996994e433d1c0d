//! What fuzz targets reach: replies as both forms of the bridge read them.

use crate::bridge::envelope::Envelope;
use crate::bridge::redis::resp::Reader;
use crate::bridge::redis::streams;
use crate::bridge::redis::subscriber::{Pushed, pushed};

/// A bulk string has at most so many bytes.
const MAX_BULK: u64 = 1000;

/// Reads bytes of an engine.
pub(crate) fn replies(bytes: &[u8]) {
    let mut reader = Reader::new(bytes, MAX_BULK);
    let mut before = 0;
    while let Ok(pushed) = pushed(&mut reader) {
        assert!(reader.position() > before && reader.position() <= bytes.len());
        before = reader.position();
        if let Pushed::Message { payload, .. } = pushed
            && let Ok(envelope) = Envelope::decode(payload)
        {
            let mut again = Vec::new();
            envelope.encode(&mut again);
            assert_eq!(again, payload);
        }
    }
    streams::fuzz(&mut Reader::new(bytes, MAX_BULK));
}
