//! Clients on tokio's runtime, on one thread.

use std::net::SocketAddr;

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::{Outcome, Received, Reply};

pub(crate) fn run(client: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(client)
}

async fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(crate) async fn tokio_tungstenite(addr: SocketAddr, mut received: Received) -> Outcome {
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{addr}/feed"), connect(addr).await?).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        let reply = match &message {
            Message::Text(text) => received.take(text.as_bytes())?,
            Message::Close(_) => return Ok(()),
            _ => return Err("no text".into()),
        };
        match reply {
            Reply::Nothing => {}
            Reply::TheSame => socket.send(message).await?,
            Reply::Count(count) => socket.send(Message::text(count)).await?,
        }
    }
    Ok(())
}

struct Spawn;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

pub(crate) async fn fastwebsockets(addr: SocketAddr, mut received: Received) -> Outcome {
    let request = Request::get(format!("ws://{addr}/feed"))
        .header("Host", addr.to_string())
        .header("Upgrade", "websocket")
        .header("Connection", "upgrade")
        .header("Sec-WebSocket-Key", fastwebsockets::handshake::generate_key())
        .header("Sec-WebSocket-Version", "13")
        .body(Empty::<Bytes>::new())?;
    let (socket, _) = fastwebsockets::handshake::client(&Spawn, request, connect(addr).await?).await?;
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text => {}
            OpCode::Close => return Ok(()),
            _ => return Err("no text".into()),
        }
        match received.take(&frame.payload)? {
            Reply::Nothing => {}
            Reply::TheSame => socket.write_frame(Frame::text(frame.payload)).await?,
            Reply::Count(count) => socket.write_frame(Frame::text(Payload::Owned(count.into_bytes()))).await?,
        }
    }
}
