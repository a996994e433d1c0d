//! tungstenite with a thread for each connection: an echo, and a broadcast in which the publisher's thread writes to all.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use peer_common::Options;
use tungstenite::WebSocket;
use tungstenite::protocol::Role;

/// The write halves of all connections.
type Everyone = Arc<Mutex<HashMap<u64, WebSocket<Shared>>>>;

/// A socket that one thread reads from while others write. A second descriptor for each of 10,000 connections would exceed
/// the limit.
#[derive(Clone)]
struct Shared(Arc<TcpStream>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn main() -> ExitCode {
    peer_common::main(serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let everyone = match options.mode.as_str() {
        "echo" => None,
        "broadcast" => Some(Everyone::default()),
        _ => return Err(options.no_such_mode("echo and broadcast")),
    };
    for (id, stream) in (0..).zip(TcpListener::bind(&options.addr)?.incoming()) {
        let stream = stream?;
        stream.set_nodelay(true)?;
        let everyone = everyone.clone();
        // An error means that the client has gone.
        thread::Builder::new().spawn(move || match everyone {
            None => drop(echo(stream)),
            Some(everyone) => {
                drop(publish(stream, id, &everyone));
                everyone.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        })?;
    }
    Ok(())
}

fn echo(stream: TcpStream) -> Result<(), Box<dyn Error>> {
    let mut socket = tungstenite::accept(stream).map_err(|error| error.to_string())?;
    loop {
        let message = socket.read()?;
        if message.is_text() || message.is_binary() {
            socket.send(message)?;
        }
    }
}

fn publish(stream: TcpStream, id: u64, everyone: &Everyone) -> Result<(), Box<dyn Error>> {
    let stream = Shared(Arc::new(stream));
    let write = WebSocket::from_raw_socket(stream.clone(), Role::Server, None);
    let mut read = tungstenite::accept(stream).map_err(|error| error.to_string())?;
    everyone.lock().unwrap_or_else(PoisonError::into_inner).insert(id, write);
    loop {
        let message = read.read()?;
        if message.is_text() || message.is_binary() {
            for socket in everyone.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
                // An error means that the connection is about to close.
                let _ = socket.send(message.clone());
            }
        }
    }
}
