//! simple-websockets: events on the main thread. Its runtime has as many threads as the process has cores.

use std::collections::HashMap;
use std::error::Error;
use std::net::TcpListener;
use std::process::ExitCode;

use peer_common::Options;
use simple_websockets::{Event, Responder};
use socket2::SockRef;

fn main() -> ExitCode {
    peer_common::main(serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let broadcast = match options.mode.as_str() {
        "echo" => false,
        "broadcast" => true,
        _ => return Err(options.no_such_mode("echo and broadcast")),
    };
    let listener = TcpListener::bind(&options.addr)?;
    // The crate has no setting for this. On Linux, accepted sockets inherit it from the listener.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    let events = simple_websockets::launch_from_listener(listener).map_err(|error| format!("{error:?}"))?;
    let mut clients: HashMap<u64, Responder> = HashMap::new();
    loop {
        match events.poll_event() {
            Event::Connect(id, responder) => drop(clients.insert(id, responder)),
            Event::Disconnect(id) => drop(clients.remove(&id)),
            // `send` returns false if the client has gone.
            Event::Message(_, message) if broadcast => {
                for client in clients.values() {
                    client.send(message.clone());
                }
            }
            Event::Message(id, message) => {
                if let Some(client) = clients.get(&id) {
                    client.send(message);
                }
            }
        }
    }
}
