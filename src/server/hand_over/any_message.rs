//! Any message of the two processes, for tests and a fuzz target: each of the processes expects one kind at a time, or a few.

use std::os::fd::OwnedFd;

use crate::protocol::deflate::Codec;
use crate::protocol::state::StateError;
use crate::server::hand_over::message::{check_hello, import_additions, import_listeners, kind};
use crate::server::hand_over::topics::import_topics;
use crate::worker::event_loop::arriving::Arriving;

/// Reads what the other process may have said: the kind of a message, and what follows its length. Nothing is allocated beyond what there is, but for what a message
/// under way is inflated to, which is `max_message_size` at most.
pub(crate) fn parse(message: &[u8], max_message_size: u64) -> Result<(), StateError> {
    let (kind, body) = message.split_first().ok_or(StateError::Truncated)?;
    match *kind {
        kind::HELLO => check_hello(body).map_err(|_| StateError::Invalid("a greeting")),
        kind::LISTENERS => {
            let null = || Ok(OwnedFd::from(std::fs::File::open("/dev/null")?));
            let sockets: Result<_, std::io::Error> = (0..2).map(|_| null()).collect();
            import_listeners(body, sockets.map_err(|_| StateError::Invalid("a file"))?).map(drop)
        }
        kind::CONNECTIONS => {
            let mut codec = Codec::new();
            let mut places = Arriving::places(body)?.into_iter();
            places.try_for_each(|place| Arriving::import(&body[place], max_message_size, &mut codec).map(drop))
        }
        kind::ADDITIONS => import_additions(body, drop),
        kind::TOPICS => import_topics(body, drop),
        kind::REFUSED | kind::READY | kind::ALL_SENT | kind::HELD | kind::COMMIT | kind::COMMITTED => Ok(()),
        kind::TOPICS_SENT | kind::TOPICS_HELD | kind::BRIDGE => Ok(()),
        _ => Err(StateError::Invalid("the kind of a message")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::PeerAddr;
    use crate::server::hand_over::PROTOCOL_VERSION;
    use crate::server::hand_over::message::{additions, export_addition, export_listeners, hello};
    use crate::server::listener::socket_file::FileIdentity;
    use crate::server::reactor::hand_over_command::SharedListener;
    use crate::worker::handle::hand_over::{Addition, Change, Rest};

    /// Messages that are as they should be: the listeners, and the rest of a connection.
    fn messages() -> Vec<Vec<u8>> {
        let file = FileIdentity { path: "/run/app".into(), device: 1, inode: 2 };
        let listeners = [None, Some(file)].map(|file| {
            let socket = std::fs::File::open("/dev/null").expect("a file").into();
            SharedListener { addr: PeerAddr::Unix(Some("/run/app".into())), file, socket }
        });
        let topics = vec![("news".to_owned(), 5)];
        let change = Change::Goes(Rest { data: b"state".to_vec(), output: b"frames".to_vec(), topics });
        let mut rest = additions();
        export_addition(&Addition { id: 7, change }, &mut rest);
        let bodies = [
            (kind::HELLO, hello()),
            (kind::LISTENERS, export_listeners(&listeners)),
            (kind::ADDITIONS, rest.into_bytes()),
            (kind::COMMIT, Vec::new()),
        ];
        bodies.map(|(kind, body)| [vec![kind], body].concat()).into()
    }

    #[test]
    fn the_listeners_come_back_with_their_files() {
        let [hello, listeners, ..] = &messages()[..] else { panic!("four messages") };
        assert!(parse(hello, 1).is_ok() && parse(listeners, 1).is_ok());
        let sockets = (0..2).map(|_| std::fs::File::open("/dev/null").expect("a file").into()).collect();
        let read = import_listeners(&listeners[1..], sockets).expect("listeners");
        assert_eq!(export_listeners(&read), listeners[1..]);
        for cut in 1..listeners.len() {
            assert!(parse(&listeners[..cut], 1).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_message_panics(
            kind in 0..24_u8, mut bytes: Vec<u8>, which in 0..4_usize, place: prop::sample::Index, byte: u8, has_version: bool,
        ) {
            if has_version {
                bytes.splice(..0, PROTOCOL_VERSION.to_be_bytes());
            }
            let _ = parse(&[&[kind], &bytes[..]].concat(), 1 << 16);
            let mut message = messages().swap_remove(which);
            *place.get_mut(&mut message) = byte;
            let _ = parse(&message, 1 << 16);
            let cut = place.index(message.len());
            let _ = parse(&message[..cut], 1 << 16);
        }
    }
}
