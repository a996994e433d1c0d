//! Clients without a runtime.

use std::io::{Read, Write};

use threadbare::{ClientLoop, EventRef, WebSocket};
use tungstenite::Message;

use crate::target::Target;
use crate::{Outcome, Received, Reply};

pub(crate) fn tungstenite(target: &Target, received: Received) -> Outcome {
    #[cfg(feature = "tls")]
    if let Some(config) = target.rustls()? {
        let session = rustls::ClientConnection::new(config, crate::target::NAME.try_into()?)?;
        return tungstenite_over(rustls::StreamOwned::new(session, target.connect()?), target, received);
    }
    tungstenite_over(target.connect()?, target, received)
}

fn tungstenite_over(stream: impl Read + Write, target: &Target, mut received: Received) -> Outcome {
    let (mut socket, _) = tungstenite::client(target.url(), stream).map_err(|error| error.to_string())?;
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

pub(crate) fn socket(target: &Target, received: Received) -> Outcome {
    let (request, stream) = (target.request()?, target.connect()?);
    #[cfg(feature = "tls")]
    if let Some(tls) = target.client_tls()? {
        return owned(WebSocket::connect_tls_with(request, stream, &target.config(), &tls)?, received);
    }
    owned(WebSocket::connect_with(request, stream, &target.config())?, received)
}

fn owned<S: Read + Write>(mut socket: WebSocket<S>, mut received: Received) -> Outcome {
    while let Some(message) = socket.recv()? {
        match received.take(message.as_bytes())? {
            Reply::Nothing => {}
            Reply::TheSame => socket.send(message)?,
            Reply::Count(count) => socket.send(count)?,
        }
    }
    Ok(())
}

pub(crate) fn socket_lent(target: &Target, received: Received) -> Outcome {
    let (request, stream) = (target.request()?, target.connect()?);
    #[cfg(feature = "tls")]
    if let Some(tls) = target.client_tls()? {
        return lent(WebSocket::connect_tls_with(request, stream, &target.config(), &tls)?, received);
    }
    lent(WebSocket::connect_with(request, stream, &target.config())?, received)
}

fn lent<S: Read + Write>(mut socket: WebSocket<S>, mut received: Received) -> Outcome {
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

pub(crate) fn client(target: &Target, mut received: Received) -> Outcome {
    let client = target.builder()?.connect(&target.own_url())?;
    while let Some(message) = client.recv()? {
        match received.take(message.as_bytes())? {
            Reply::Nothing => {}
            Reply::TheSame => client.send(message)?,
            Reply::Count(count) => client.send(count)?,
        }
    }
    Ok(())
}

pub(crate) fn client_lent(target: &Target, mut received: Received) -> Outcome {
    let client = target.builder()?.connect(&target.own_url())?;
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

pub(crate) fn inline(target: &Target, mut received: Received) -> Outcome {
    let mut client_loop = ClientLoop::new(target.config())?;
    let _peer = target.builder()?.connect_inline(&target.own_url(), &mut client_loop)?;
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
