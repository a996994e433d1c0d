//! Servers that receive a large message in parts, or send one, and echo what is small.

use std::error::Error;
use std::mem;
use std::sync::Arc;

use crc32fast::Hasher;
use peer_common::large::GO;
use threadbare::{
    EventRef, FragmentRef, Handler, MessageRef, MessageWriter, OriginPolicy, Peer, Server, ServerBuilder, Socket,
    StreamOptions, Tls,
};

use crate::{Direction, Options, Transport};

fn builder(options: &Options) -> Result<ServerBuilder, Box<dyn Error>> {
    let builder = Server::builder().workers(1).origins(OriginPolicy::Any).config(options.config());
    match options.transport {
        Transport::Tls => {
            let file = |name: &str| options.certificate.join(name);
            Ok(builder.tls(Tls::from_pem_files(file("chain.pem"), file("key.pem"))?))
        }
        Transport::Plain | Transport::Deflate => Ok(builder),
    }
}

pub(crate) fn handler(options: Options) -> Result<(), Box<dyn Error>> {
    let (builder, addr, options) = (builder(&options)?, options.addr.clone(), Arc::new(options));
    builder.serve(&*addr, move |_request| Streams { options: options.clone(), hasher: Hasher::new() })?.join();
    Ok(())
}

struct Streams {
    options: Arc<Options>,
    hasher: Hasher,
}

impl Handler for Streams {
    fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}

    fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
        let is_whole = is_whole(fragment);
        if is_whole && fragment.as_bytes() == GO.as_bytes() {
            socket.send_stream(self.options.message.source(), StreamOptions::binary());
        } else if is_whole || self.options.direction == Direction::Echo {
            socket.send_fragment(fragment);
        } else {
            self.hasher.update(fragment.as_bytes());
            if fragment.is_last() {
                socket.send(checksum(mem::take(&mut self.hasher)));
            }
        }
    }
}

pub(crate) fn events(options: &Options) -> Result<(), Box<dyn Error>> {
    let server = builder(options)?.bind(&*options.addr)?;
    // Of the one connection that has a large message.
    let (mut hasher, mut writer) = (Hasher::new(), None);
    let mut events = server.iter();
    while let Some(event) = events.next_ref() {
        let EventRef::Fragment(peer, fragment) = event else { continue };
        if !is_whole(fragment) && options.direction == Direction::Echo {
            echo(peer, fragment, &mut writer)?;
        } else if !is_whole(fragment) {
            hasher.update(fragment.as_bytes());
            if fragment.is_last() {
                peer.send(checksum(mem::take(&mut hasher)))?;
            }
        } else if fragment.as_bytes() == GO.as_bytes() {
            peer.start_stream(options.message.source(), StreamOptions::binary())?;
        } else if let Some(text) = fragment.as_text() {
            peer.send(text)?;
        }
    }
    Ok(())
}

/// A write waits until the connection has room. A server with other connections would have a thread for that.
fn echo(
    peer: &Peer,
    fragment: FragmentRef<'_>,
    writer: &mut Option<MessageWriter<Peer>>,
) -> Result<(), Box<dyn Error>> {
    let open = writer.get_or_insert_with(|| peer.writer(StreamOptions::binary()));
    std::io::Write::write_all(open, fragment.as_bytes())?;
    if fragment.is_last()
        && let Some(complete) = writer.take()
    {
        complete.finish()?;
    }
    Ok(())
}

fn is_whole(fragment: FragmentRef<'_>) -> bool {
    fragment.is_first() && fragment.is_last()
}

pub(crate) fn checksum(hasher: Hasher) -> String {
    format!("{:08x}", hasher.finalize())
}
