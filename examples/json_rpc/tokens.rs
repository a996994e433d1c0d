//! Who may come: tokens (RFC 6750), which are checked on threads of their own.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use threadbare::{Accept, Pending, Request, Response};

/// How many handshakes wait for their check at most. More are answered 503.
const MAX_WAITING: usize = 256;

/// Whose token it is. It goes with the connection.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
}

/// The users by the SHA-256 of their tokens, so that the tokens are not in memory, and how long a look-up takes says nothing
/// about them. A token must be long and random: a hash of a password would have to be slow.
#[derive(Debug)]
pub(crate) struct Tokens(HashMap<[u8; 32], User>);

impl Tokens {
    /// Reads a file of lines with a name, a space, and a token.
    pub(crate) fn read(path: &Path) -> io::Result<Tokens> {
        let mut users = HashMap::new();
        for line in std::fs::read_to_string(path)?.lines().filter(|line| !line.trim().is_empty()) {
            let (name, token) = line
                .split_once(' ')
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a line has no name and token"))?;
            users.insert(hash(token.trim()), User { name: name.to_owned() });
        }
        Ok(Tokens(users))
    }

    fn user(&self, token: &str) -> Option<&User> {
        self.0.get(&hash(token))
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A handshake that waits for the check of its token.
#[derive(Debug)]
struct Waiting {
    token: String,
    pending: Pending,
}

/// The threads that check tokens. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Checkers(SyncSender<Waiting>);

impl Checkers {
    pub(crate) fn start(tokens: Tokens, check_time: Duration, threads: usize) -> io::Result<Checkers> {
        let (sender, receiver) = mpsc::sync_channel(MAX_WAITING);
        let shared = Arc::new((tokens, Mutex::new(receiver)));
        for _ in 0..threads.max(1) {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("checker".to_owned()).spawn(move || check(&shared.0, &shared.1, check_time))?;
        }
        Ok(Checkers(sender))
    }

    /// Has a handshake decided. Does not wait: this runs on the thread that accepts connections.
    pub(crate) fn submit(&self, request: &Request, pending: Pending) {
        let Some(token) = bearer(request) else { return pending.reject(unauthorized(None)) };
        match self.0.try_send(Waiting { token: token.to_owned(), pending }) {
            Ok(()) => {}
            Err(TrySendError::Full(waiting) | TrySendError::Disconnected(waiting)) => {
                let body = json!({ "error": "busy" }).to_string();
                waiting.pending.reject(Response::new(503).header("Retry-After", "1").json(body));
            }
        }
    }
}

/// Checks the tokens that come, until there is nobody to send any.
fn check(tokens: &Tokens, waiting: &Mutex<Receiver<Waiting>>, check_time: Duration) {
    loop {
        // The one thread that has the lock waits, and the others wait for the lock.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Waiting { token, pending }) = next else { return };
        thread::sleep(check_time); // a database, or the service that makes the tokens
        match tokens.user(&token) {
            Some(user) => pending.accept(Accept::new().data(user.clone())),
            None => pending.reject(unauthorized(Some("invalid_token"))),
        }
    }
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 2.1). The name of the scheme has no case (RFC 9110 11.1).
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// RFC 6750 3: a request without a token is told no error, only what is wanted.
fn unauthorized(error: Option<&str>) -> Response {
    let mut challenge = "Bearer realm=\"json_rpc\"".to_owned();
    if let Some(error) = error {
        challenge.push_str(&format!(", error=\"{error}\""));
    }
    let body = json!({ "error": error.unwrap_or("unauthorized") }).to_string();
    Response::new(401).header("WWW-Authenticate", &challenge).json(body)
}
