//! What the kinds of clients have in common.

use std::net::TcpStream;
use std::time::Duration;

use threadbare::{
    Client, ClientError, CloseCode, Message, Prepared, ReconnectingClient, SendError, SendTimeoutError, SocketError,
    TrySendError, WebSocket,
};

use crate::board::fail;

pub(crate) enum Sent {
    Accepted,
    Full,
    Closed,
}

pub(crate) enum Received {
    Message(Message),
    Nothing,
    /// The closing handshake is complete.
    Clean,
    Abnormal(String),
}

/// A client's connection.
pub(crate) trait Link {
    /// Sends in one of several ways.
    fn send(&mut self, message: Message, how: u64) -> Sent;
    fn receive(&mut self, wait: Duration) -> Received;
    fn ping(&mut self);
    fn close(&mut self);
    fn abort(&mut self);
    /// Closes once everything is written. Returns whether that is certain; `None` if this kind has no such method.
    fn finish(&mut self, timeout: Duration) -> Option<bool>;
}

macro_rules! link {
    ($client:ty, $abort:expr, $is_clean:expr) => {
        impl Link for $client {
            fn send(&mut self, message: Message, how: u64) -> Sent {
                let client: &$client = self;
                match how % 10 {
                    0 | 1 => sent(client.send(message)),
                    2..=5 => try_sent(client.try_send(message)),
                    6 | 7 => timely(client.send_timeout(message, Duration::from_millis(10))),
                    8 => try_sent(client.try_send_prepared(&Prepared::new(message))),
                    _ => sent(client.send_prepared(&Prepared::new(message))),
                }
            }

            fn receive(&mut self, wait: Duration) -> Received {
                let received = if wait.is_zero() { self.try_recv() } else { self.recv_timeout(wait) };
                match received {
                    Ok(Some(message)) => Received::Message(message),
                    Ok(None) => Received::Clean,
                    Err(ClientError::Timeout | ClientError::Empty) => Received::Nothing,
                    Err(error) => Received::Abnormal(format!("{error:?}")),
                }
            }

            fn ping(&mut self) {
                send_ping(self);
            }

            fn close(&mut self) {
                let _ = <$client>::close(self, CloseCode(4_200), "by the client");
            }

            fn abort(&mut self) {
                $abort(self);
            }

            fn finish(&mut self, timeout: Duration) -> Option<bool> {
                Some(<$client>::finish(self, timeout).is_ok_and($is_clean))
            }
        }
    };
}

fn sent<T>(result: Result<(), SendError<T>>) -> Sent {
    match result {
        Ok(()) => Sent::Accepted,
        Err(SendError::Full(_)) => Sent::Full,
        Err(SendError::Disconnected(_)) => Sent::Closed,
        Err(error) => fail(&format!("{error}")),
    }
}

fn try_sent<T>(result: Result<(), TrySendError<T>>) -> Sent {
    match result {
        Ok(()) => Sent::Accepted,
        Err(TrySendError::Full(_)) => Sent::Full,
        Err(TrySendError::Disconnected(_)) => Sent::Closed,
        Err(error) => fail(&format!("{error}")),
    }
}

fn timely<T>(result: Result<(), SendTimeoutError<T>>) -> Sent {
    match result {
        Ok(()) => Sent::Accepted,
        Err(SendTimeoutError::Timeout(_)) => Sent::Full,
        Err(SendTimeoutError::Disconnected(_)) => Sent::Closed,
        Err(error) => fail(&format!("{error}")),
    }
}

trait Pings {
    fn send_ping(&self);
}

impl Pings for Client {
    fn send_ping(&self) {
        let _ = self.ping(b"client");
    }
}

impl Pings for ReconnectingClient {
    fn send_ping(&self) {
        if let Some(peer) = self.peer() {
            let _ = peer.ping(b"client");
        }
    }
}

fn send_ping(client: &impl Pings) {
    client.send_ping();
}

link!(Client, |client: &mut Client| (*client).abort(), |reason| reason.is_clean());
link!(
    ReconnectingClient,
    // The client reconnects.
    |client: &mut ReconnectingClient| if let Some(peer) = client.peer() {
        peer.abort()
    },
    |ended| ended.is_clean()
);

impl Link for WebSocket<TcpStream> {
    fn send(&mut self, message: Message, _: u64) -> Sent {
        match WebSocket::send(self, message) {
            Ok(()) | Err(SocketError::Queued) => Sent::Accepted,
            Err(SocketError::Timeout) => Sent::Full,
            Err(_) => Sent::Closed,
        }
    }

    fn receive(&mut self, wait: Duration) -> Received {
        match self.recv_timeout(wait.max(Duration::from_millis(1))) {
            Ok(Some(message)) => Received::Message(message),
            Ok(None) => Received::Clean,
            Err(SocketError::Timeout) => Received::Nothing,
            Err(error) => Received::Abnormal(format!("{error:?}")),
        }
    }

    fn ping(&mut self) {
        let _ = WebSocket::send(self, Message::Ping(b"client".to_vec()));
    }

    fn close(&mut self) {
        let _ = WebSocket::close(self, CloseCode(4_200), "by the client");
    }

    fn abort(&mut self) {
        let _ = self.get_ref().shutdown(std::net::Shutdown::Both);
    }

    fn finish(&mut self, _: Duration) -> Option<bool> {
        None
    }
}
