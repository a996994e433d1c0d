//! A frame that many connections send.

use std::sync::Arc;
#[cfg(feature = "deflate")]
use std::sync::OnceLock;

use crate::protocol::deflate::{Codec, Compression};
use crate::protocol::frame::{FrameHeader, Opcode};
use crate::protocol::{Connection, frame};
use crate::transport::budget::MemoryBudget;
use crate::transport::shared_bytes::SharedBytes;

/// A frame as a server sends it, encoded once for many connections; and compressed once for each size of window among
/// those that negotiated permessage-deflate, when the first of them comes.
#[derive(Clone, Debug)]
pub(crate) struct SharedFrame {
    plain: SharedBytes,
    #[cfg(feature = "deflate")]
    deflated: Option<Arc<Deflated>>,
}

/// A compressed frame, and the size of its payload.
pub(crate) type DeflatedFrame = (SharedBytes, usize);

/// For windows of 9 to 15 bits: the compressed frame, or none where it would not get smaller.
#[cfg(feature = "deflate")]
type Deflated = [OnceLock<Option<DeflatedFrame>>; 7];

impl SharedFrame {
    /// Encodes a frame.
    pub(crate) fn new(opcode: Opcode, payload: &[u8], compression: Compression) -> SharedFrame {
        let mut plain = Vec::with_capacity(payload.len() + frame::MAX_HEADER_SIZE);
        frame::encode(&mut plain, opcode, payload, None);
        #[cfg(not(feature = "deflate"))]
        let _ = compression;
        SharedFrame {
            plain: plain.into(),
            #[cfg(feature = "deflate")]
            deflated: (compression == Compression::Auto && !opcode.is_control()).then(Arc::default),
        }
    }

    /// The frame for connections without compression.
    pub(crate) fn plain(&self) -> &SharedBytes {
        &self.plain
    }

    /// Charges its memory to `budget`.
    pub(crate) fn charge(&self, budget: &Arc<MemoryBudget>) {
        self.plain.charge(budget);
    }

    /// The opcode and payload of the frame.
    pub(crate) fn message(&self) -> Option<(Opcode, &[u8])> {
        let (header, size) = FrameHeader::parse(&self.plain).ok()??;
        Some((header.opcode, self.plain.get(size..)?))
    }

    /// Whether connections may compress it.
    #[cfg(feature = "deflate")]
    pub(crate) fn compression(&self) -> Compression {
        if self.deflated.is_some() { Compression::Auto } else { Compression::Never }
    }

    /// Whether connections may compress it.
    #[cfg(not(feature = "deflate"))]
    pub(crate) fn compression(&self) -> Compression {
        Compression::Never
    }

    /// The frame compressed for `connection` and those like it: by whichever of them comes first, on its thread. Others
    /// that come meanwhile wait for it, which is what they would do if they compressed it themselves.
    #[cfg(feature = "deflate")]
    pub(crate) fn deflated(&self, connection: &Connection, codec: &mut Codec) -> Option<&DeflatedFrame> {
        let window = connection.shared_window_bits()?.checked_sub(9)?;
        let deflated = self.deflated.as_ref()?.get(usize::from(window))?;
        let compressed = deflated.get_or_init(|| {
            let (opcode, payload) = self.message()?;
            let payload = connection.compress_shared(payload, codec)?;
            let mut frame = Vec::with_capacity(payload.len() + frame::MAX_HEADER_SIZE);
            frame::encode_compressed(&mut frame, opcode, payload, None);
            let frame = SharedBytes::from(frame);
            frame.charge_like(&self.plain);
            Some((frame, payload.len()))
        });
        compressed.as_ref()
    }

    /// Nothing: there is no compression.
    #[cfg(not(feature = "deflate"))]
    pub(crate) fn deflated(&self, _: &Connection, _: &mut Codec) -> Option<&DeflatedFrame> {
        None
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::deflate::{DeflateConfig, DeflateParams};
    use crate::protocol::frame::RSV1;
    use crate::protocol::http::extension_offers;
    use crate::protocol::{Received, Role};
    use crate::transport::endpoint::Endpoint;
    use crate::transport::output::Output;
    use crate::transport::stream::blocking::BlockingStream;

    /// A connection at the server that agreed to this offer, and what its peer agreed to.
    fn pair(offer: &str, config: &DeflateConfig) -> (Endpoint<BlockingStream<Cursor<Vec<u8>>>>, Connection) {
        let offers = extension_offers(offer.as_bytes()).map(|offer| offer.expect("well-formed"));
        let (params, _) = config.accept(offers).expect("accepted");
        let other = DeflateParams { compress: params.decompress, decompress: params.compress, ..params };
        let server = Connection::new(Role::Server, 1 << 20).with_deflate(params);
        let client = Connection::new(Role::Client, 1 << 20).with_deflate(other);
        (Endpoint::new(BlockingStream::new(Cursor::default()), server, Vec::new()), client)
    }

    /// What is sent of a frame, and whether `codec` was used for it.
    fn send(endpoint: &mut Endpoint<BlockingStream<Cursor<Vec<u8>>>>, frame: &SharedFrame) -> (Vec<u8>, bool) {
        let (mut output, mut codec) = (Output::default(), Codec::new());
        endpoint.push_shared(&mut output, &mut codec, frame);
        *endpoint.stream.as_mut() = Cursor::default();
        endpoint.flush(&mut output, &[]).expect("written");
        (endpoint.stream.as_ref().get_ref().clone(), !codec.is_empty())
    }

    fn received(client: &mut Connection, mut bytes: Vec<u8>) -> Vec<u8> {
        match client.receive(&mut bytes).expect("legal") {
            (_, Received::Message(message)) => message.as_bytes().to_vec(),
            (_, Received::Assembled(message)) => message.as_bytes().to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn compressions(frame: &SharedFrame) -> usize {
        frame.deflated.iter().flat_map(|deflated| deflated.iter()).filter(|form| form.get().is_some()).count()
    }

    #[test]
    fn a_frame_for_many_is_compressed_once_for_each_window() {
        let text = "the same for everyone, ".repeat(100);
        let frame = SharedFrame::new(Opcode::Text, text.as_bytes(), Compression::Auto);
        let config = DeflateConfig::default();
        let mut plain =
            Endpoint::new(BlockingStream::new(Cursor::default()), Connection::new(Role::Server, 1 << 20), Vec::new());
        assert_eq!(send(&mut plain, &frame), (frame.plain().to_vec(), false));
        assert_eq!(compressions(&frame), 0, "not compressed before it is needed");
        let mut worked = 0;
        for n in 0..1000 {
            let offer = ["", "; server_max_window_bits=9", "; server_max_window_bits=12"][n % 3];
            let (mut server, mut client) = pair(&format!("permessage-deflate{offer}"), &config);
            let (bytes, compressed) = send(&mut server, &frame);
            worked += usize::from(compressed);
            assert!(bytes.len() < text.len() / 10 && bytes[0] >> 4 & 0b111 == RSV1);
            assert_eq!(received(&mut client, bytes), text.as_bytes());
            let stats = server.connection.deflate_stats().expect("negotiated");
            assert_eq!(stats.sent, text.len() as u64);
            let seen = client.deflate_stats().expect("negotiated");
            assert_eq!((stats.sent, stats.sent_compressed), (seen.received, seen.received_compressed));
        }
        assert_eq!((worked, compressions(&frame)), (3, 3), "for a thousand connections");
    }

    #[test]
    fn workers_share_what_one_of_them_has_compressed() {
        let text = "the same for everyone, ".repeat(1000);
        let frame = SharedFrame::new(Opcode::Text, text.as_bytes(), Compression::Auto);
        let worked: usize = std::thread::scope(|scope| {
            let work = || {
                let config = DeflateConfig::default();
                let mut servers: Vec<_> = (0..50).map(|_| pair("permessage-deflate", &config).0).collect();
                servers.iter_mut().map(|server| usize::from(send(server, &frame).1)).sum::<usize>()
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
        });
        assert_eq!(worked, 1);
    }

    #[test]
    fn a_connection_with_a_past_of_its_own_compresses_by_itself() {
        let text = "the same for everyone, ".repeat(10);
        let frame = SharedFrame::new(Opcode::Text, text.as_bytes(), Compression::Auto);
        let (mut server, mut client) =
            pair("permessage-deflate", &DeflateConfig::default().server_no_context_takeover(false));
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let (bytes, _) = send(&mut server, &frame);
            sizes.push(bytes.len());
            assert_eq!(received(&mut client, bytes), text.as_bytes());
        }
        assert!(sizes[1] < sizes[0] / 2, "{sizes:?}");
        assert_eq!(compressions(&frame), 0);
    }

    proptest! {
        /// Own messages and shared ones, compressed or not, in any order and between any pauses.
        #[test]
        fn a_40_shared_messages_and_own_ones_do_not_disturb_each_other(
            messages in proptest::collection::vec((0..5_u8, any::<bool>(), 0..60_usize, any::<bool>()), 1..12),
            takeover: bool, window_bits in 9_u8..=15,
        ) {
            let config = DeflateConfig::default().server_no_context_takeover(!takeover);
            let (mut server, mut client) =
                pair(&format!("permessage-deflate; server_max_window_bits={window_bits}"), &config);
            let mut codec = Codec::new();
            for (kind, auto, times, idle) in messages {
                if idle {
                    while server.connection.trim() {}
                    codec.trim();
                }
                let text = format!("message {kind} {}", "again and again, ".repeat(times));
                let compression = if auto { Compression::Auto } else { Compression::Never };
                let mut output = Output::default();
                if kind < 2 {
                    let frame = SharedFrame::new(Opcode::Text, text.as_bytes(), compression);
                    server.push_shared(&mut output, &mut codec, &frame);
                } else {
                    server.push(&mut output, &mut codec, Opcode::Text, text.as_bytes(), compression);
                }
                *server.stream.as_mut() = Cursor::default();
                server.flush(&mut output, &[]).expect("written");
                let bytes = server.stream.as_ref().get_ref().clone();
                prop_assert_eq!(bytes[0] >> 4 & 0b111 == RSV1, auto && text.len() >= 128);
                prop_assert_eq!(received(&mut client, bytes), text.into_bytes());
            }
        }
    }

    #[test]
    fn what_is_small_unwanted_or_incompressible_stays_as_it_is() {
        let small = SharedFrame::new(Opcode::Text, &[b'x'; 127], Compression::Auto);
        let never = SharedFrame::new(Opcode::Text, &[b'x'; 1000], Compression::Never);
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(500)
        .collect();
        let noise = SharedFrame::new(Opcode::Binary, &noise, Compression::Auto);
        let control = SharedFrame::new(Opcode::Ping, &[b'x'; 125], Compression::Auto);
        for takeover in [true, false] {
            let config = DeflateConfig::default().server_no_context_takeover(!takeover);
            for frame in [&small, &never, &control] {
                let (mut server, _) = pair("permessage-deflate", &config);
                assert_eq!(send(&mut server, frame), (frame.plain().to_vec(), false));
                assert_eq!(server.connection.deflate_stats(), Some(crate::protocol::deflate::DeflateStats::default()));
            }
        }
        let (mut server, _) = pair("permessage-deflate", &DeflateConfig::default());
        assert_eq!(send(&mut server, &noise), (noise.plain().to_vec(), true), "once tried");
        assert_eq!(send(&mut server, &noise), (noise.plain().to_vec(), false), "and not again");
    }
}
