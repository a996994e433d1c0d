//! The new process: takes everything from the old one, and serves it once it has it.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;

use crate::error::BuildError;
use crate::protocol::deflate::Codec;
use crate::protocol::state::StateError;
use crate::server::hand_over::channel::{Channel, MAX_BODY};
use crate::server::hand_over::giver::check_user;
use crate::server::hand_over::message::{MAX_SMALL, hello, import_addition, import_connection, import_listeners, kind};
use crate::server::hand_over::{GREETING_TIMEOUT, HANDSHAKE_TIMEOUT, TRANSFER_TIMEOUT};
use crate::server::reactor::hand_over_command::{Arrived, SharedListener};
use crate::transport::stream::Stream;
use crate::worker::event_loop::arriving::Arriving;
use crate::worker::handle::hand_over::Change;

/// A new process that the old one knows of.
#[derive(Debug)]
pub(in crate::server) struct Taker {
    channel: Channel,
}

/// The connections, by the ids that they have there.
type Connections = HashMap<u64, Arrived>;

fn failed(error: io::Error) -> BuildError {
    BuildError::io("the running server was not taken over, and serves on")(error)
}

fn invalid(error: StateError) -> BuildError {
    failed(io::Error::new(io::ErrorKind::InvalidData, error))
}

fn unexpected(kind: u8) -> BuildError {
    failed(io::Error::new(io::ErrorKind::InvalidData, format!("it has sent a message of kind {kind}")))
}

impl Taker {
    /// Asks the server at `path` for everything; `None` if none runs there. Returns its listeners as well.
    pub(super) fn connect(path: &Path) -> Result<Option<(Taker, Vec<SharedListener>)>, BuildError> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => {
                let why = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        ": its process is of another user, or its directory is closed to this one"
                    }
                    _ => "",
                };
                return Err(BuildError::io(format!("the server at {} can not be asked{why}", path.display()))(error));
            }
        };
        check_user(&stream).map_err(|why| failed(io::Error::new(io::ErrorKind::PermissionDenied, why)))?;
        // The old process may be busy with another that asks.
        let mut channel = Channel::new(stream, Instant::now() + GREETING_TIMEOUT * 3);
        channel.send(kind::HELLO, &hello(), &[]).map_err(failed)?;
        let answer = channel.receive(MAX_SMALL).map_err(failed)?;
        match answer.kind {
            kind::LISTENERS => {
                let listeners = import_listeners(&answer.body, answer.descriptors).map_err(invalid)?;
                Ok(Some((Taker { channel }, listeners)))
            }
            kind::REFUSED => Err(failed(io::Error::other(String::from_utf8_lossy(&answer.body).into_owned()))),
            other => Err(unexpected(other)),
        }
    }

    /// Takes the connections. When this returns them, they are this process's.
    pub(super) fn take(mut self, max_message_size: usize) -> Result<Vec<Arrived>, BuildError> {
        self.channel.set_deadline(Instant::now() + HANDSHAKE_TIMEOUT * 3 + TRANSFER_TIMEOUT * 2);
        self.channel.send(kind::READY, &[], &[]).map_err(failed)?;
        let (mut connections, mut codec) = (Connections::new(), Codec::new());
        loop {
            let received = self.channel.receive(MAX_BODY).map_err(failed)?;
            match received.kind {
                kind::CONNECTION => {
                    let (id, state) = import_connection(&received.body).map_err(invalid)?;
                    let arriving = Arriving::import(state, max_message_size as u64, &mut codec).map_err(invalid)?;
                    let Ok([socket]) = <[_; 1]>::try_from(received.descriptors) else {
                        return Err(invalid(StateError::Invalid("no socket")));
                    };
                    connections.insert(id, (stream_of(socket)?, arriving));
                }
                kind::ALL_SENT => {
                    if received.body != (connections.len() as u64).to_be_bytes() {
                        return Err(invalid(StateError::Invalid("the number of connections")));
                    }
                    self.channel.send(kind::HELD, &received.body, &[]).map_err(failed)?;
                }
                kind::ADDITION => add(&mut connections, &received.body).map_err(invalid)?,
                kind::COMMIT => {
                    // Once this is sent, the old process lets go of them. If it can not be sent, they are the old one's.
                    self.channel.send(kind::COMMITTED, &[], &[]).map_err(failed)?;
                    return Ok(connections.into_values().collect());
                }
                other => return Err(unexpected(other)),
            }
        }
    }
}

/// A connection over a descriptor that another process has sent.
fn stream_of(socket: OwnedFd) -> Result<Stream, BuildError> {
    if socket_type(&socket) != Ok(SocketType::STREAM) {
        return Err(invalid(StateError::Invalid("a descriptor that is no stream socket")));
    }
    let stream = TcpStream::from(socket);
    // One that blocks would hold up every connection of its worker.
    stream.set_nonblocking(true).map_err(failed)?;
    Ok(Stream::Tcp(mio::net::TcpStream::from_std(stream)))
}

/// Adds what a connection was sent late.
fn add(connections: &mut Connections, body: &[u8]) -> Result<(), StateError> {
    let addition = import_addition(body)?;
    match addition.change {
        Change::Stays => drop(connections.remove(&addition.id)),
        Change::More { output, topics } => {
            let (_, arriving) = connections.get_mut(&addition.id).ok_or(StateError::Invalid("an id"))?;
            arriving.output.extend_from_slice(&output);
            arriving.topics = topics;
        }
    }
    Ok(())
}
