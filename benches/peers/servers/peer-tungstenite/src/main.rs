//! tungstenite with a thread for each connection.

use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

use peer_common::Options;

fn main() -> ExitCode {
    peer_common::main(serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    if options.mode != "echo" {
        return Err(options.no_such_mode("echo"));
    }
    for stream in TcpListener::bind(&options.addr)?.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        // An error is a client's that has gone.
        thread::Builder::new().spawn(move || drop(echo(stream)))?;
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
