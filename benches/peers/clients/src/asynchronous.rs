//! Clients on tokio's runtime, on one thread.

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::target::Target;
use crate::{Outcome, Received, Reply};

pub(crate) fn run(client: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(client)
}

async fn connect(target: &Target) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(target.addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(feature = "tls")]
async fn connect_tls(
    target: &Target,
) -> Result<Option<tokio_rustls::client::TlsStream<TcpStream>>, Box<dyn std::error::Error>> {
    let Some(config) = target.rustls()? else { return Ok(None) };
    let name = crate::target::NAME.try_into()?;
    Ok(Some(tokio_rustls::TlsConnector::from(config).connect(name, connect(target).await?).await?))
}

pub(crate) async fn tokio_tungstenite(target: &Target, received: Received) -> Outcome {
    #[cfg(feature = "tls")]
    if let Some(stream) = connect_tls(target).await? {
        return tokio_tungstenite_over(stream, target, received).await;
    }
    tokio_tungstenite_over(connect(target).await?, target, received).await
}

async fn tokio_tungstenite_over(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    target: &Target,
    mut received: Received,
) -> Outcome {
    let (mut socket, _) = tokio_tungstenite::client_async(target.url(), stream).await?;
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

pub(crate) async fn fastwebsockets(target: &Target, received: Received) -> Outcome {
    #[cfg(feature = "tls")]
    if let Some(stream) = connect_tls(target).await? {
        return fastwebsockets_over(stream, target, received).await;
    }
    fastwebsockets_over(connect(target).await?, target, received).await
}

async fn fastwebsockets_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
    mut received: Received,
) -> Outcome {
    let request = Request::get(target.url())
        .header("Host", target.addr.to_string())
        .header("Upgrade", "websocket")
        .header("Connection", "upgrade")
        .header("Sec-WebSocket-Key", fastwebsockets::handshake::generate_key())
        .header("Sec-WebSocket-Version", "13")
        .body(Empty::<Bytes>::new())?;
    let (socket, _) = fastwebsockets::handshake::client(&Spawn, request, stream).await?;
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
