use proptest::prelude::*;

use super::tests::{LIMIT, Seen, client_frame, failure, feed_to, frame, frames};
use super::*;

/// Passes `pieces` to `connection`, which delivers fragments, and joins these. What a message has before an error is left
/// out.
pub(super) fn join<'a>(
    connection: &mut Connection,
    codec: &mut Codec,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Seen> {
    let (mut events, mut message) = (Vec::new(), Vec::new());
    let mut end = 0_u64;
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            let (taken, received) = match connection.receive_with(rest, codec) {
                Ok(done) => done,
                Err(error) => {
                    events.push(Seen::Failed(error));
                    break;
                }
            };
            assert!(taken > 0, "every step takes something");
            assert_eq!((connection.lacks(), connection.wants_buffer()), (0, None));
            let mut join = |fragment: FragmentRef<'_>| {
                assert_eq!((fragment.offset(), fragment.is_first()), (end, end == 0));
                assert!(!fragment.is_empty() || fragment.is_last(), "only the last is empty");
                assert_eq!(fragment.as_text().is_some(), fragment.is_text());
                message.extend_from_slice(fragment.as_bytes());
                end += fragment.len() as u64;
                if fragment.is_last() {
                    let whole = std::mem::take(&mut message);
                    events.push(match fragment.is_text() {
                        true => Seen::Text(String::from_utf8(whole).expect("every fragment was text")),
                        false => Seen::Binary(whole),
                    });
                    end = 0;
                }
            };
            match received {
                Received::Fragment(fragment) => join(fragment),
                Received::OwnFragment(fragment) => {
                    assert!(fragment.len() <= 3 * (64 << 10), "{} bytes", fragment.len());
                    join(fragment.as_ref());
                    codec.reuse(fragment);
                }
                Received::Message(_) | Received::Assembled(_) => panic!("a whole message"),
                Received::Ping(payload) => events.push(Seen::Ping(payload.into_owned())),
                Received::Pong(payload) => events.push(Seen::Pong(payload.into_owned())),
                Received::Close(frame) => events.push(Seen::Close(frame)),
                Received::Nothing => {}
            }
            rest = &mut rest[taken..];
        }
    }
    events
}

fn server() -> Connection {
    let mut server = Connection::new(Role::Server, 0);
    assert_eq!(server.deliver_fragments(Some(LIMIT)), None);
    server
}

/// The fragments of a message of which nothing else arrives: their bytes, and whether the last is the message's last.
fn fragments(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut server, mut seen, mut ended) = (server(), Vec::new(), false);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            let (taken, received) = server.receive(rest).expect("legal");
            match received {
                Received::Fragment(fragment) => {
                    seen.push(fragment.as_bytes().to_vec());
                    ended = fragment.is_last();
                }
                Received::OwnFragment(fragment) => {
                    ended = fragment.is_last();
                    seen.push(fragment.into_bytes());
                }
                other => assert!(matches!(other, Received::Nothing | Received::Ping(_)), "{other:?}"),
            }
            rest = &mut rest[taken..];
        }
    }
    (seen, ended)
}

#[test]
fn what_arrives_is_delivered_at_once() {
    let bytes = frame(Opcode::Binary, b"abcdef");
    let seen = |pieces: &[&[u8]]| fragments(pieces);
    assert_eq!(seen(&[&bytes]), (vec![b"abcdef".to_vec()], true), "one fragment");
    assert_eq!(seen(&[&bytes[..8], &bytes[8..11]]), (vec![b"ab".to_vec(), b"cde".to_vec()], false));
    assert_eq!(seen(&[&bytes[..8], &bytes[8..]]), (vec![b"ab".to_vec(), b"cdef".to_vec()], true));
    let parts = [client_frame(false, 0, Opcode::Binary, b"ab"), frame(Opcode::Continuation, b"")].concat();
    assert_eq!(seen(&[&parts]), (vec![b"ab".to_vec(), vec![]], true), "the end is told");
    let nothing = [client_frame(false, 0, Opcode::Binary, b""), frame(Opcode::Continuation, b"")].concat();
    assert_eq!(seen(&[&nothing]), (vec![vec![]], true), "one fragment");
}

#[test]
fn a_fragment_does_not_end_inside_a_character() {
    let bytes = frame(Opcode::Text, "a€b".as_bytes());
    let texts = |texts: &[&str], ended| (texts.iter().map(|text| text.as_bytes().to_vec()).collect(), ended);
    assert_eq!(fragments(&[&bytes[..8]]), texts(&["a"], false));
    assert_eq!(fragments(&[&bytes[..8], &bytes[8..]]), texts(&["a", "€", "b"], true));
    let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(fragments(&one_by_one), texts(&["a", "€", "b"], true));
    let cut = [client_frame(false, 0, Opcode::Text, b"\xe2"), frame(Opcode::Ping, b"")].concat();
    assert_eq!(fragments(&[&cut, &frame(Opcode::Continuation, b"\x82\xac")]), texts(&["€"], true), "the last");
}

#[test]
fn invalid_utf_8_is_refused_as_soon_as_it_arrives() {
    let text = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
    let bytes = frame(Opcode::Text, text);
    assert_eq!(join(&mut server(), &mut Codec::new(), [&bytes[..6 + 12]]), []);
    assert_eq!(join(&mut server(), &mut Codec::new(), [&bytes[..6 + 13]]), failure(ProtocolError::InvalidUtf8));
}

#[test]
fn the_limit_is_on_the_sum_and_is_checked_at_each_header() {
    let too_big = |size| failure(ProtocolError::MessageTooBig { size, limit: LIMIT });
    let over =
        [client_frame(false, 0, Opcode::Binary, &[7; 100]), vec![0x80, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]];
    assert_eq!(join(&mut server(), &mut Codec::new(), [&over.concat()[..]]), too_big(LIMIT + 100));
    let mut unlimited = Connection::new(Role::Server, 0);
    unlimited.deliver_fragments(None);
    let mut longest = *b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0x";
    let (taken, received) = unlimited.receive(&mut longest).expect("no limit");
    assert!(taken == 15 && matches!(received, Received::Fragment(fragment) if fragment.as_bytes() == b"x"));
}

#[test]
fn nothing_of_a_message_is_kept() {
    let mut server = server();
    let idle = server.memory();
    server.receive(&mut frame(Opcode::Binary, &[7; 100_000])[..50_000].to_vec()).expect("legal");
    assert_eq!(server.memory(), idle);
}

#[test]
fn delivery_changes_between_messages_and_what_has_arrived_is_the_first_fragment() {
    let bytes = frame(Opcode::Text, "a€b".as_bytes());
    let mut server = Connection::new(Role::Server, 5);
    server.receive(&mut bytes[..8].to_vec()).expect("legal");
    assert!(!server.delivers_fragments() && server.deliver_messages());
    let first = server.deliver_fragments(None).expect("a byte, and two of the next character");
    assert_eq!((first.as_text(), first.is_first(), first.is_last()), (Some("a"), true, false));
    assert!(!server.deliver_messages() && server.delivers_fragments(), "inside the message");
    let mut rest = bytes[8..].to_vec();
    let (taken, received) = server.receive(&mut rest).expect("legal");
    assert!(
        matches!(received, Received::OwnFragment(character) if character.as_text() == Some("€") && character.offset() == 1)
    );
    let (_, received) = server.receive(&mut rest[taken..]).expect("legal");
    assert!(matches!(received, Received::Fragment(last) if last.as_text() == Some("b") && last.is_last()));
    assert!(server.deliver_messages() && server.assembly.is_none(), "an idle connection is small");
    let events = feed_to(&mut server, &mut Codec::new(), [&bytes[..], &frame(Opcode::Text, b"sixsix")[..]]);
    let too_big = Seen::Failed(ProtocolError::MessageTooBig { size: 6, limit: 5 });
    assert_eq!(events, [Seen::Text("a€b".into()), too_big], "with its own limit");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn fragments_joined_are_the_messages_in_any_chunking(
        bytes in frames(), cuts in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..6), 25),
    ) {
        let expected = feed_to(&mut Connection::new(Role::Server, LIMIT), &mut Codec::new(), [&bytes[..]]);
        prop_assert_eq!(&join(&mut server(), &mut Codec::new(), bytes.chunks(1)), &expected);
        for cuts in cuts {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
            prop_assert_eq!(&join(&mut server(), &mut Codec::new(), pieces), &expected);
        }
    }
}
