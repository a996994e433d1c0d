use proptest::prelude::*;

use super::super::tests::{KEY, LIMIT, Seen, feed_to};
use super::*;
use crate::protocol::Received;
use crate::protocol::frame::{FrameHeader, Opcode};
use crate::protocol::mask;

const VERSION: u16 = 1;

fn exported(connection: &Connection) -> Option<Vec<u8>> {
    let mut state = StateWriter::new(VERSION);
    connection.export(&mut state).then(|| state.into_bytes())
}

fn imported(state: &[u8], role: Role) -> Result<Connection, StateError> {
    let mut reader = StateReader::new(state, VERSION)?;
    let connection = Connection::import(&mut reader, role, LIMIT, &mut Codec::new())?;
    reader.end()?;
    Ok(connection)
}

/// The connection as another process goes on with it.
fn travel(connection: &Connection) -> Connection {
    let state = exported(connection).expect("an open connection");
    let there = imported(&state, connection.role()).expect("what was exported");
    assert_eq!(exported(&there).as_deref(), Some(&state[..]), "nothing is lost on the way");
    there
}

/// A frame as the peer of this role sends it.
fn frame(role: Role, (fin, rsv, opcode): (bool, u8, Opcode), payload: &[u8], out: &mut Vec<u8>) {
    let key = (role == Role::Server).then_some(KEY);
    FrameHeader { fin, rsv, ..FrameHeader::new(opcode, payload.len() as u64, key) }.encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask::apply(&mut out[start..], key);
    }
}

/// A message in fragments that end anywhere, also inside a character, with pings between them.
fn message(role: Role, rsv: u8, opcode: Opcode, payload: &[u8], fragments: usize, out: &mut Vec<u8>) {
    let size = payload.len().div_ceil(fragments).max(1);
    let pieces: Vec<&[u8]> = if payload.is_empty() { vec![&[]] } else { payload.chunks(size).collect() };
    for (index, piece) in pieces.iter().enumerate() {
        let is_first = index == 0;
        let header = (
            index + 1 == pieces.len(),
            if is_first { rsv } else { 0 },
            if is_first { opcode } else { Opcode::Continuation },
        );
        frame(role, header, piece, out);
        if size.is_multiple_of(3) {
            frame(role, (true, 0, Opcode::Ping), b"between", out);
        }
    }
}

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// Messages, and into how many fragments each is cut.
fn messages() -> impl Strategy<Value = Vec<(String, bool, usize)>> {
    let text = prop_oneof!["[a-c]{0,40}", "[ä€𝄞]{0,12}", "([a-b]{1,9}x){10,60}"];
    prop::collection::vec((text, any::<bool>(), 1..5_usize), 1..5)
}

fn expected(events: &[Seen]) -> Vec<&Seen> {
    events.iter().collect()
}

/// Checks that `stream` gives the same events whether one connection sees it all, or goes to another process behind each
/// of its bytes; and if it does so behind every byte.
fn check_every_cut(new: impl Fn() -> Connection, stream: &[u8]) {
    let whole = feed_to(&mut new(), &mut Codec::new(), [stream]);
    for cut in 0..=stream.len() {
        let (before, after) = stream.split_at(cut);
        let (mut here, mut codec) = (new(), Codec::new());
        let mut events = feed_to(&mut here, &mut codec, [before]);
        events.extend(feed_to(&mut travel(&here), &mut Codec::new(), [after]));
        assert_eq!(expected(&events), expected(&whole), "cut at {cut}");
    }
    let (mut connection, mut events) = (new(), Vec::new());
    for byte in stream.chunks(1) {
        events.extend(feed_to(&mut connection, &mut Codec::new(), [byte]));
        connection = travel(&connection);
    }
    assert_eq!(expected(&events), expected(&whole), "behind every byte");
}

/// Joins the fragments of `pieces`, each of which another process receives.
fn joined(connection: Connection, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut connection, mut codec, mut all) = (connection, Codec::new(), Vec::new());
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            let (taken, received) = connection.receive_with(rest, &mut codec).expect("legal frames");
            match received {
                Received::Fragment(fragment) => all.extend_from_slice(fragment.as_bytes()),
                Received::OwnFragment(fragment) => all.extend_from_slice(fragment.as_bytes()),
                _ => {}
            }
            rest = &mut rest[taken..];
        }
        connection = travel(&connection);
        assert!(connection.delivers_fragments());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn another_process_goes_on_behind_any_byte(role in roles(), messages in messages()) {
        let mut stream = Vec::new();
        for (text, is_text, fragments) in &messages {
            let opcode = if *is_text { Opcode::Text } else { Opcode::Binary };
            message(role, 0, opcode, text.as_bytes(), *fragments, &mut stream);
        }
        check_every_cut(|| Connection::new(role, LIMIT), &stream);
    }

    #[test]
    fn fragments_go_on_behind_any_byte(role in roles(), messages in messages(), size in 1..30_usize) {
        let (mut stream, mut payload) = (Vec::new(), Vec::new());
        for (text, is_text, fragments) in &messages {
            let opcode = if *is_text { Opcode::Text } else { Opcode::Binary };
            message(role, 0, opcode, text.as_bytes(), *fragments, &mut stream);
            payload.extend_from_slice(text.as_bytes());
        }
        let mut connection = Connection::new(role, LIMIT);
        connection.deliver_fragments(Some(1 << 40));
        prop_assert_eq!(joined(connection, &stream.chunks(size).collect::<Vec<_>>()), payload);
    }

    /// RFC 7692: with context takeover a message refers to those before it, which were inflated elsewhere.
    #[cfg(feature = "deflate")]
    #[test]
    fn compressed_messages_go_on_behind_any_byte(
        role in roles(), messages in messages(), takeover: bool, level in 1_u32..9,
    ) {
        use crate::protocol::deflate::tests::{params, zlib_deflate};
        use crate::protocol::frame::RSV1;
        let new_zlib = || flate2::Compress::new(flate2::Compression::new(level), false);
        let (mut stream, mut zlib) = (Vec::new(), new_zlib());
        // Twice, so that the second half is little but references to the first.
        for (text, is_text, fragments) in messages.iter().chain(&messages) {
            let opcode = if *is_text { Opcode::Text } else { Opcode::Binary };
            if !takeover {
                zlib = new_zlib();
            }
            let payload = if text.is_empty() { vec![0] } else { zlib_deflate(&mut zlib, text.as_bytes()) };
            message(role, RSV1, opcode, &payload, *fragments, &mut stream);
            message(role, 0, opcode, text.as_bytes(), *fragments, &mut stream);
        }
        let new = || {
            let mut connection = Connection::new(role, LIMIT).with_deflate(params(takeover, 15, 1));
            connection.keep_exportable();
            connection
        };
        check_every_cut(new, &stream);
    }

    /// Whatever the bytes are, they are refused or make a connection that can be used.
    #[test]
    fn no_state_panics(bytes: Vec<u8>, input in prop::collection::vec(any::<u8>(), 0..100)) {
        let state = [&VERSION.to_be_bytes()[..], &bytes].concat();
        if let Ok(mut connection) = imported(&state, Role::Server) {
            feed_to(&mut connection, &mut Codec::new(), [&input[..]]);
        }
    }

    /// As the test before, with states that are nearly right.
    #[test]
    fn no_state_with_wrong_bytes_panics(
        messages in messages(), cut: prop::sample::Index, wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        takeover: bool,
    ) {
        let mut stream = Vec::new();
        for (text, is_text, fragments) in &messages {
            let opcode = if *is_text { Opcode::Text } else { Opcode::Binary };
            message(Role::Server, 0, opcode, text.as_bytes(), *fragments, &mut stream);
        }
        let (before, after) = stream.split_at(cut.index(stream.len()));
        let mut connection = new_with_compression(takeover);
        feed_to(&mut connection, &mut Codec::new(), [before]);
        let mut state = exported(&connection).expect("an open connection");
        for (at, byte) in wrong {
            let at = at.index(state.len());
            state[at] = byte;
        }
        if let Ok(mut connection) = imported(&state, Role::Server) {
            feed_to(&mut connection, &mut Codec::new(), [after]);
        }
        for end in 0..state.len() {
            let _ = imported(&state[..end], Role::Server);
        }
    }
}

#[cfg(feature = "deflate")]
fn new_with_compression(takeover: bool) -> Connection {
    let params = crate::protocol::deflate::tests::params(takeover, 15, 1);
    let mut connection = Connection::new(Role::Server, LIMIT).with_deflate(params);
    connection.keep_exportable();
    connection
}

#[cfg(not(feature = "deflate"))]
fn new_with_compression(_: bool) -> Connection {
    Connection::new(Role::Server, LIMIT)
}

#[test]
fn a_connection_that_closes_or_sends_a_message_in_parts_stays() {
    let mut connection = Connection::new(Role::Server, LIMIT);
    assert!(exported(&connection).is_some());
    let part = crate::protocol::OutgoingFragment {
        opcode: Opcode::Text,
        payload: b"a",
        last: crate::protocol::Last::No,
        compression: crate::protocol::deflate::Compression::Never,
    };
    assert!(connection.send_fragment(part, &mut Codec::new(), None, &mut Vec::new()));
    assert_eq!(exported(&connection), None);
    let mut connection = Connection::new(Role::Server, LIMIT);
    connection.close(None, None, &mut Vec::new());
    assert_eq!(exported(&connection), None);
}

/// A window that was not kept can not be told.
#[cfg(feature = "deflate")]
#[test]
fn a_connection_whose_window_was_not_kept_stays() {
    use crate::protocol::deflate::tests::{params, zlib_deflate};
    let mut connection = Connection::new(Role::Server, LIMIT).with_deflate(params(true, 15, 1));
    assert!(exported(&connection).is_some(), "nothing was inflated yet");
    let mut zlib = flate2::Compress::new(flate2::Compression::fast(), false);
    let mut stream = Vec::new();
    frame(
        Role::Server,
        (true, crate::protocol::frame::RSV1, Opcode::Text),
        &zlib_deflate(&mut zlib, b"a"),
        &mut stream,
    );
    assert_eq!(feed_to(&mut connection, &mut Codec::new(), [&stream[..]]), [Seen::Text("a".into())]);
    assert_eq!(exported(&connection), None);
}

/// More than the window has passed, and the longest distance is referred to.
#[cfg(feature = "deflate")]
#[test]
fn the_whole_window_travels() {
    use crate::protocol::deflate::tests::{params, zlib_deflate};
    use crate::protocol::frame::RSV1;
    let mut connection = Connection::new(Role::Client, LIMIT).with_deflate(params(true, 15, 1));
    connection.keep_exportable();
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut zlib = flate2::Compress::new(flate2::Compression::best(), false);
    let mut stream = Vec::new();
    frame(Role::Client, (true, RSV1, Opcode::Binary), &zlib_deflate(&mut zlib, &noise), &mut stream);
    feed_to(&mut connection, &mut Codec::new(), [&stream[..]]);
    // zlib looks back for all of its window but the last 262 bytes.
    let far = noise[noise.len() - 32_000..][..20_000].to_vec();
    let mut stream = Vec::new();
    let deflated = zlib_deflate(&mut zlib, &far);
    assert!(deflated.len() < 1_000, "{} bytes", deflated.len());
    frame(Role::Client, (true, RSV1, Opcode::Binary), &deflated, &mut stream);
    let there = feed_to(&mut travel(&connection), &mut Codec::new(), [&stream[..]]);
    assert_eq!(there, [Seen::Binary(far)]);
}
