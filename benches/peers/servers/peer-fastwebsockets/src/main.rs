//! fastwebsockets behind hyper, as its examples use it: an echo, and a broadcast through tokio's broadcast channel.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;

use fastwebsockets::{FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use peer_common::Options;
use tokio::net::TcpListener;
use tokio::sync::broadcast::Sender;

/// The opcode and the payload of a message.
type Published = (OpCode, Bytes);

fn main() -> ExitCode {
    peer_common::main(|options| options.block_on(serve(&options)))
}

async fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let everyone = options.everyone()?;
    let listener = TcpListener::bind(&options.addr).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let everyone = everyone.clone();
        let answer = service_fn(move |request| answer(request, everyone.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(connection.with_upgrades());
    }
}

async fn answer(
    mut request: Request<Incoming>,
    everyone: Option<Sender<Published>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    Ok(match upgrade::upgrade(&mut request) {
        Ok((response, upgraded)) => {
            match everyone {
                None => drop(tokio::spawn(tokio::task::unconstrained(echo(upgraded)))),
                Some(everyone) => drop(tokio::spawn(publish(upgraded, everyone))),
            }
            response
        }
        Err(_) => {
            let mut response = Response::new(Empty::new());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    })
}

async fn echo(upgraded: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn publish(upgraded: upgrade::UpgradeFut, everyone: Sender<Published>) -> Result<(), WebSocketError> {
    let (read, mut write) = upgraded.await?.split(tokio::io::split);
    let mut read = FragmentCollectorRead::new(read);
    let mut receiver = everyone.subscribe();
    let deliver = tokio::spawn(async move {
        while let Ok((opcode, payload)) = receiver.recv().await {
            let frame = Frame::new(true, opcode, None, Payload::Borrowed(&payload));
            if write.write_frame(frame).await.is_err() {
                return;
            }
        }
    });
    // As in its example, pings and close frames get no reply. The load generator sends none.
    let mut unanswered = |_| async { Ok::<_, WebSocketError>(()) };
    while let Ok(frame) = read.read_frame(&mut unanswered).await {
        match frame.opcode {
            OpCode::Close => break,
            // An error means that there is no receiver.
            OpCode::Text | OpCode::Binary => {
                drop(everyone.send((frame.opcode, Bytes::copy_from_slice(&frame.payload))))
            }
            _ => {}
        }
    }
    deliver.abort();
    Ok(())
}
