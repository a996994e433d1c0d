//! Clients without a runtime.

use std::net::{SocketAddr, TcpStream};

use threadbare::{Client, ClientLoop, Config, EventRef, WebSocket};
use tungstenite::Message;

use crate::{Outcome, Received, Reply};

fn url(addr: SocketAddr) -> String {
    format!("ws://{addr}/feed")
}

fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(crate) fn tungstenite(addr: SocketAddr, mut received: Received) -> Outcome {
    let (mut socket, _) = tungstenite::client(url(addr), connect(addr)?)?;
    loop {
        let message = socket.read()?;
        let reply = match &message {
            Message::Text(text) => received.take(text.as_bytes())?,
            Message::Close(_) => return Ok(()),
            _ => return Err("no text".into()),
        };
        match reply {
            Reply::Nothing => {}
            Reply::TheSame => socket.send(message)?,
            Reply::Count(count) => socket.send(Message::text(count))?,
        }
    }
}

pub(crate) fn socket(addr: SocketAddr, mut received: Received) -> Outcome {
    let mut socket = WebSocket::connect(&url(addr), connect(addr)?)?;
    while let Some(message) = socket.recv()? {
        match received.take(message.as_bytes())? {
            Reply::Nothing => {}
            Reply::TheSame => socket.send(message)?,
            Reply::Count(count) => socket.send(count)?,
        }
    }
    Ok(())
}

pub(crate) fn socket_lent(addr: SocketAddr, mut received: Received) -> Outcome {
    let mut socket = WebSocket::connect(&url(addr), connect(addr)?)?;
    // A lent message can not be sent by the socket that lends it.
    let mut copy = String::new();
    while let Some(message) = socket.recv_ref()? {
        match received.take(message.as_bytes())? {
            Reply::Nothing => {}
            Reply::TheSame => {
                copy.clear();
                copy.push_str(message.as_text().unwrap_or_default());
                socket.send(&copy)?;
            }
            Reply::Count(count) => socket.send(count)?,
        }
    }
    Ok(())
}

pub(crate) fn client(addr: SocketAddr, mut received: Received) -> Outcome {
    let client = Client::builder().no_proxy().connect(&url(addr))?;
    while let Some(message) = client.recv()? {
        match received.take(message.as_bytes())? {
            Reply::Nothing => {}
            Reply::TheSame => client.send(message)?,
            Reply::Count(count) => client.send(count)?,
        }
    }
    Ok(())
}

pub(crate) fn client_lent(addr: SocketAddr, mut received: Received) -> Outcome {
    let client = Client::builder().no_proxy().connect(&url(addr))?;
    let mut messages = client.iter();
    while let Some(message) = messages.next_ref() {
        let message = message?;
        match received.take(message.as_bytes())? {
            Reply::Nothing => {}
            Reply::TheSame => client.send(message)?,
            Reply::Count(count) => client.send(count)?,
        }
    }
    Ok(())
}

pub(crate) fn inline(addr: SocketAddr, mut received: Received) -> Outcome {
    let mut client_loop = ClientLoop::new(Config::default())?;
    let _peer = Client::builder().no_proxy().connect_inline(&url(addr), &mut client_loop)?;
    let mut failed = None;
    client_loop.run(|event| {
        let EventRef::Message(peer, message) = event else { return };
        let replied = match received.take(message.as_message().as_bytes()) {
            Ok(Reply::Nothing) => Ok(()),
            Ok(Reply::TheSame) => peer.send(message).map_err(Into::into),
            Ok(Reply::Count(count)) => peer.send(count).map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = replied {
            failed = Some(error);
            peer.abort();
        }
    })?;
    failed.map_or(Ok(()), Err)
}
