//! tokio-tungstenite, as its examples use it: each message sent and flushed, or the stream forwarded into the sink.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt, StreamExt, TryStreamExt, future, stream};
use peer_common::Options;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

fn main() -> ExitCode {
    peer_common::main(|options| options.block_on(serve(&options)))
}

async fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(&options.addr).await?;
    let everyone = Everyone::default();
    let acceptor = options.certificate.as_ref().map(|(chain, key)| acceptor(chain, key)).transpose()?;
    for id in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // An error means that the client has gone.
        match options.mode.as_str() {
            "echo" if acceptor.is_some() => drop(tokio::spawn(echo_over_tls(stream, acceptor.clone()))),
            "echo" => drop(tokio::spawn(echo(stream))),
            "forward" => drop(tokio::spawn(forward(stream))),
            "broadcast" => drop(tokio::spawn(broadcast(stream, id, Arc::clone(&everyone)))),
            _ => return Err(options.no_such_mode("echo, forward and broadcast")),
        }
    }
    Ok(())
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), WebSocketError> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn echo_over_tls(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Result<(), WebSocketError> {
    match acceptor {
        Some(acceptor) => echo(acceptor.accept(stream).await?).await,
        None => echo(stream).await,
    }
}

/// With rustls' defaults, except that it sends one ticket, as the other servers do.
fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?;
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    let mut config = config.with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.send_tls13_tickets = 1;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn forward(stream: TcpStream) -> Result<(), WebSocketError> {
    let (write, read) = accept_async(stream).await?.split();
    read.try_filter(|message| future::ready(message.is_text() || message.is_binary())).forward(write).await
}

type Everyone = Arc<Mutex<HashMap<u64, UnboundedSender<Message>>>>;

/// As its chat server does it: a queue for each connection is forwarded into the connection's sink.
async fn broadcast(stream: TcpStream, id: u64, everyone: Everyone) -> Result<(), WebSocketError> {
    let (write, read) = accept_async(stream).await?.split();
    let (sender, mut receiver) = unbounded_channel();
    everyone.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
    let publish = read.try_for_each(|message| {
        if message.is_text() || message.is_binary() {
            for sender in everyone.lock().unwrap_or_else(PoisonError::into_inner).values() {
                // An error means that the connection is about to close.
                let _ = sender.send(message.clone());
            }
        }
        future::ok(())
    });
    let deliver = stream::poll_fn(|context| receiver.poll_recv(context)).map(Ok).forward(write);
    future::select(std::pin::pin!(publish), std::pin::pin!(deliver)).await;
    everyone.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    Ok(())
}
