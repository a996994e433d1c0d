//! wtx over tokio's sockets: an echo, and a broadcast through tokio's broadcast channel.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use peer_common::Options;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Sender;
use wtx::collection::Vector;
use wtx::web_socket::{Frame, OpCode, WebSocketAcceptor, WebSocketPayloadOrigin};

/// The opcode and the payload of a message.
type Published = (OpCode, Arc<[u8]>);

fn main() -> ExitCode {
    peer_common::main(|options| options.block_on(serve(&options)))
}

async fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let everyone = options.everyone()?;
    let listener = TcpListener::bind(&options.addr).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match &everyone {
            None => drop(tokio::spawn(echo(stream))),
            Some(everyone) => drop(tokio::spawn(publish(stream, everyone.clone()))),
        }
    }
}

async fn echo(stream: TcpStream) -> wtx::Result<()> {
    let mut socket = WebSocketAcceptor::default().accept(stream).await?;
    let (mut common, mut reader, mut writer) = socket.split_mut();
    let mut buffer = Vector::new();
    loop {
        let mut frame = reader.read_frame(&mut buffer, &mut common, WebSocketPayloadOrigin::Adaptive).await?;
        match frame.op_code() {
            OpCode::Text | OpCode::Binary => writer.write_frame(&mut common, &mut frame).await?,
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}

async fn publish(stream: TcpStream, everyone: Sender<Published>) -> wtx::Result<()> {
    let socket = WebSocketAcceptor::default().accept(stream).await?;
    let parts = socket.into_split(TcpStream::into_split)?;
    let (mut reader, mut writer) = (parts.reader, parts.writer);
    let mut receiver = everyone.subscribe();
    let deliver = tokio::spawn(async move {
        // `write_frame` may change the payload, so each connection copies it.
        let mut payload = Vec::new();
        while let Ok((opcode, published)) = receiver.recv().await {
            payload.clear();
            payload.extend_from_slice(&published);
            if writer.write_frame(&mut Frame::new_fin(opcode, payload.as_mut_slice())).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = Vector::new();
    while let Ok(frame) = reader.read_frame(&mut buffer, WebSocketPayloadOrigin::Adaptive).await {
        match frame.op_code() {
            // An error means that there is no receiver.
            OpCode::Text | OpCode::Binary => drop(everyone.send((frame.op_code(), Arc::from(&**frame.payload())))),
            OpCode::Close => break,
            _ => {}
        }
    }
    deliver.abort();
    Ok(())
}
