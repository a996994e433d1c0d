//! axum, as its examples use it: an echo, and a broadcast through tokio's broadcast channel.

use std::error::Error;
use std::process::ExitCode;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use peer_common::Options;
use tokio::net::TcpListener;
use tokio::sync::broadcast::Sender;

fn main() -> ExitCode {
    peer_common::main(|options| options.block_on(serve(&options)))
}

async fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let app = match options.everyone()? {
        None => Router::new().route("/", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) })),
        Some(everyone) => {
            let publish = |upgrade: WebSocketUpgrade, State(everyone): State<Sender<Message>>| async {
                upgrade.on_upgrade(|socket| publish(socket, everyone))
            };
            Router::new().route("/", any(publish)).with_state(everyone)
        }
    };
    let listener = TcpListener::bind(&options.addr).await?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("TCP_NODELAY: {error}");
        }
    });
    Ok(axum::serve(listener, app).await?)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn publish(socket: WebSocket, everyone: Sender<Message>) {
    let (mut write, mut read) = socket.split();
    let mut receiver = everyone.subscribe();
    let deliver = tokio::spawn(async move {
        while let Ok(message) = receiver.recv().await {
            if write.send(message).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = read.next().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            // An error means that there is no receiver.
            let _ = everyone.send(message);
        }
    }
    deliver.abort();
}
