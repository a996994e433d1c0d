//! Clients that receive a large message in parts, or send one.

use std::error::Error;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use crc32fast::Hasher;
use peer_common::large::GO;
use threadbare::{Client, ClientRequest, ClientTls, StreamOptions, Url, WebSocket};

use crate::servers::checksum;
use crate::{Direction, Options, Transport};

/// The name in the certificate.
const NAME: &str = "localhost";

fn tls(options: &Options) -> Result<ClientTls, Box<dyn Error>> {
    let builder = ClientTls::builder().no_default_roots().root_file(options.certificate.join("chain.pem"));
    Ok(builder.server_name(NAME).build()?)
}

fn url(options: &Options) -> String {
    let scheme = if options.transport == Transport::Tls { "wss" } else { "ws" };
    format!("{scheme}://{}/", options.addr)
}

pub(crate) fn client(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut builder = Client::builder().config(options.config()).no_proxy();
    if options.transport == Transport::Tls {
        builder = builder.tls(tls(options)?);
    }
    let client = builder.connect(&url(options))?;
    match options.direction {
        Direction::In => {
            let mut reader = client.recv_reader()?.ok_or("the connection is closed")?;
            let checksum = read(&mut reader)?;
            drop(reader);
            client.send(checksum)?;
        }
        Direction::Out => {
            wait_for_go(client.recv()?.as_ref().map(|message| message.as_bytes()))?;
            client.send_stream(options.message.source(), StreamOptions::binary())?;
        }
        Direction::Echo => {
            let reader = client.recv_reader()?.ok_or("the connection is closed")?;
            client.send_stream(reader, StreamOptions::binary())?;
        }
    }
    // Until the other end closes the connection.
    let _ = client.recv();
    Ok(())
}

pub(crate) fn socket(options: &Options) -> Result<(), Box<dyn Error>> {
    let stream = TcpStream::connect(&options.addr)?;
    stream.set_nodelay(true)?;
    let request = ClientRequest::new(Url::parse(&url(options))?);
    match options.transport {
        Transport::Tls => {
            transfer(options, WebSocket::connect_tls_with(request, stream, &options.config(), &tls(options)?)?)
        }
        Transport::Plain | Transport::Deflate => {
            transfer(options, WebSocket::connect_with(request, stream, &options.config())?)
        }
    }
}

fn transfer<S: Read + Write>(options: &Options, mut socket: WebSocket<S>) -> Result<(), Box<dyn Error>> {
    match options.direction {
        Direction::In => {
            let mut reader = socket.recv_reader()?.ok_or("the connection is closed")?;
            let checksum = read(&mut reader)?;
            drop(reader);
            socket.send(checksum)?;
        }
        Direction::Out => {
            wait_for_go(socket.recv()?.as_ref().map(|message| message.as_bytes()))?;
            socket.send_stream(options.message.source(), StreamOptions::binary())?;
        }
        Direction::Echo => return Err("a reader borrows the WebSocket: nothing can be sent meanwhile".into()),
    }
    // Until the other end closes the connection.
    let _ = socket.recv();
    Ok(())
}

fn wait_for_go(message: Option<&[u8]>) -> Result<(), Box<dyn Error>> {
    if message == Some(GO.as_bytes()) { Ok(()) } else { Err("another message than expected".into()) }
}

/// Returns the checksum.
fn read(reader: &mut impl BufRead) -> Result<String, Box<dyn Error>> {
    let mut hasher = Hasher::new();
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(checksum(hasher));
        }
        hasher.update(bytes);
        let size = bytes.len();
        reader.consume(size);
    }
}
