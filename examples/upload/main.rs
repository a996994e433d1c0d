//! Files of any size over WebSocket, a page that sends them, and back to anybody who knows their names.
//!
//! ```sh
//! cargo run --release --example upload
//! ```
//!
//! Then open `http://127.0.0.1:8080/`. The example `download` fetches what the page has sent.
//!
//! At `/upload` a client sends commands as text, in JSON, and the content as binary messages, which may be of any size: all of
//! the file in one, or a slice in each. The server writes what arrives to the disk, and has no file in memory.
//!
//! | command | answer |
//! | --- | --- |
//! | `{"type":"begin","name":"film.mp4","size":123}` | `{"type":"ready","id":"ID","offset":0}` |
//! | `{"type":"resume","id":"ID"}` | `ready` with what is there already, or `done` |
//! | content | `{"type":"received","offset":123}` for each message and each MiB, and `done` at last |
//! | `{"type":"abort"}` | `{"type":"aborted"}`: the file is removed |
//!
//! `{"type":"done","id":"ID","name":"film.mp4","size":123,"sha256":"..."}` has the checksum of what the disk has. A client
//! whose connection ends goes on with `resume` on the next one.
//!
//! At `/files/ID`, the server sends the same as `file`. A client that answers `{"type":"send","from":0}` is sent the content from
//! there on, as one message, and the connection is closed. So a client that has a part goes on behind it.
//!
//! The disk has threads of its own, so that the workers never wait for it: each takes the events of its share of the
//! connections. While it writes, the connections whose events wait are not read, and their clients' sends wait.
//!
//! Everyone who reaches the port may take the room that `--max-total` leaves: a file counts with its whole size from its `begin`
//! on. A server for the public asks who it is first, as `json_rpc` does, counts what each has, and removes what nobody has gone on
//! with.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use common::tls::Certificate;
use lexopt::prelude::*;
use serde_json::{Value, json};
use store::{Id, Refused, Resumed, Store, Stored, Upload};
use threadbare::{
    Accept, CloseCode, Compression, Config, EventRef, Events, FragmentRef, Peer, Receive, Request, Response, Server,
    SlowConsumer, StreamOptions, StreamOutcome,
};

mod store;

const USAGE: &str = "\
Takes files of any size over WebSocket, from its page or other clients, and sends them back.

Usage: upload [ADDR] [OPTIONS]

  ADDR                    where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --dir DIRECTORY         where the files are (default uploads; it is made if it is not there)
  --max-size BYTES        the size of the largest file (default 64 GiB)
  --max-total BYTES       the size of all files together, those that are not complete included (default: no limit)
  --threads N             how many threads write to the disk (default 4)
  --cert FILE --key FILE  TLS, with this certificate chain and private key in PEM
                          (built with --features rustls-tls-webpki-roots)
  --help                  this text
";

/// How much arrives of a long message before the client is told.
const ACKNOWLEDGE_EVERY: u64 = 1 << 20;

/// The size of the longest command: a name of 255 characters, each as two JSON escapes, and the rest.
const MAX_COMMAND_SIZE: usize = 4096;

/// How much may wait for the disk, of all connections of a thread together.
const MAX_WAITING: usize = 1 << 20;

struct Options {
    addr: String,
    dir: PathBuf,
    max_size: u64,
    max_total: u64,
    threads: usize,
    certificate: Certificate,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let store = Store::new(options.dir, options.max_size, options.max_total)?;
    let config = Config::default()
        .receive(Receive::Fragments { max_size: Some(options.max_size) })
        .max_event_buffer_size(MAX_WAITING)
        // A thread has other connections too, and must not wait for a client that does not read its acknowledgements.
        .slow_consumer(SlowConsumer::Disconnect);
    let css = concat!(include_str!("../common/style.css"), include_str!("page.css"));
    let page = common::page::serve(include_str!("page.html"), css, include_str!("page.js"));
    // `origins` is not set: by default, only a page from this host may connect.
    let builder = Server::builder().config(config).channels(options.threads).http(page).on_request(route);
    let mut server = options.certificate.apply(builder)?.bind(&options.addr)?;
    options.certificate.announce(server.handle())?;
    let all_events = server.take_events();
    thread::scope(|scope| {
        for events in &all_events {
            scope.spawn(|| serve_connections(events, &store));
        }
    });
    Ok(())
}

/// Accepts opening handshakes for uploads and for files, of which only a thread of the disk finds out whether they are there.
fn route(request: &Request) -> Result<Accept, Response> {
    match request.path() {
        "/upload" => Ok(Accept::new()),
        path if file_id(path).is_some() => Ok(Accept::new()),
        _ => Err(Response::new(404).text("send to /upload, or receive from /files/ID\n")),
    }
}

/// The file that a path is for.
fn file_id(path: &str) -> Option<Id> {
    Id::parse(path.strip_prefix("/files/")?)
}

/// Handles the events of a thread's share of the connections, until the server has ended.
fn serve_connections(events: &Events, store: &Arc<Store>) {
    let mut connections = HashMap::new();
    let mut events = events.iter();
    while let Some(event) = events.next_ref() {
        let peer = event.peer();
        let outcome = match event {
            EventRef::Open(_, request) => {
                let begun = file_id(request.path()).map_or(Ok(State::Idle), |id| offer(store, &id, peer));
                begun.map(|state| drop(connections.insert(peer.id(), Connection::new(store, state))))
            }
            EventRef::Fragment(_, fragment) => match connections.get_mut(&peer.id()) {
                Some(connection) => connection.receive(peer, fragment),
                None => Ok(()), // it is closing
            },
            EventRef::Close(_, reason) => {
                log::info!("{} left: {reason}", peer.addr());
                connections.remove(&peer.id());
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(refused) = outcome {
            connections.remove(&peer.id());
            refuse(peer, &refused);
        }
    }
}

fn refuse(peer: &Peer, refused: &Refused) {
    log::info!("{}: {}", peer.addr(), refused.why);
    let _ = peer.close(refused.code, &refused.why); // it may be closing
}

/// Tells the client what there is of a file.
fn offer(store: &Store, id: &Id, peer: &Peer) -> Result<State, Refused> {
    let (stored, file) = store.open(id)?;
    tell_text(peer, stored.message("file"));
    Ok(State::Offering(stored, file))
}

/// Sends a file from there on, and closes the connection behind it.
fn send_file(peer: &Peer, stored: &Stored, mut file: File, from: u64) -> Result<(), Refused> {
    if from > stored.size {
        return Err(Refused::policy("the file is not as large"));
    }
    file.seek(SeekFrom::Start(from))?;
    let (addr, id) = (peer.addr(), stored.id.clone());
    let options = StreamOptions::binary().compression(Compression::Never); // most files are compressed
    // An error: the client has left, here and below.
    let _ = peer.start_stream_then(file, options, move |outcome| match outcome {
        StreamOutcome::Sent(size) => log::info!("{addr} was sent {size} bytes of {id}"),
        outcome => log::info!("{addr} was not sent {id}: {outcome:?}"),
    });
    let _ = peer.close(CloseCode::NORMAL_CLOSURE, "");
    Ok(())
}

/// What a connection is doing.
enum State {
    Idle,
    /// The client may fetch a file.
    Offering(Stored, File),
    /// A thread reads what is there.
    Resuming,
    Active(Upload),
    /// The connection is over.
    Closed,
}

/// A connection that uploads files, one after the other, or fetches one.
struct Connection {
    store: Arc<Store>,
    /// Shared with the thread that reads what is there.
    state: Arc<Mutex<State>>,
    /// What has arrived of a command.
    command: String,
    /// What the client has been told to be there.
    acknowledged: u64,
}

impl Connection {
    fn new(store: &Arc<Store>, state: State) -> Connection {
        let state = Arc::new(Mutex::new(state));
        Connection { store: Arc::clone(store), state, command: String::new(), acknowledged: 0 }
    }

    fn receive(&mut self, peer: &Peer, fragment: FragmentRef<'_>) -> Result<(), Refused> {
        let Some(text) = fragment.as_text() else { return self.content(peer, fragment) };
        if self.command.len() + text.len() > MAX_COMMAND_SIZE {
            return Err(Refused::policy("the command is too long"));
        }
        self.command.push_str(text);
        if fragment.is_last() {
            let command = std::mem::take(&mut self.command);
            let command = serde_json::from_str(&command).map_err(|_| Refused::policy("the command is no JSON"))?;
            self.command(peer, &command)?;
        }
        Ok(())
    }

    fn command(&mut self, peer: &Peer, command: &Value) -> Result<(), Refused> {
        let field = |name| command.get(name).and_then(Value::as_str);
        let size = command.get("size").and_then(Value::as_u64);
        let mut state = lock(&self.state);
        match (field("type"), &mut *state) {
            (Some("begin"), State::Idle) => {
                let (Some(name), Some(size)) = (field("name"), size) else {
                    return Err(Refused::policy("a name or a size is missing"));
                };
                let upload = self.store.begin(name, size, peer)?;
                self.acknowledged = 0;
                *state = ready(peer, upload)?;
            }
            (Some("resume"), State::Idle) => {
                let id = field("id").and_then(Id::parse).ok_or_else(|| Refused::policy("an id is missing"))?;
                *state = State::Resuming;
                self.acknowledged = 0;
                let (store, state, peer) = (Arc::clone(&self.store), Arc::clone(&self.state), peer.clone());
                thread::Builder::new().name("resume".to_owned()).spawn(move || resume(&store, &id, &state, &peer))?;
            }
            (Some("send"), State::Offering(..)) => {
                let from = command.get("from").and_then(Value::as_u64);
                let from = from.ok_or_else(|| Refused::policy("it is not said from where on"))?;
                if let State::Offering(stored, file) = std::mem::replace(&mut *state, State::Closed) {
                    send_file(peer, &stored, file, from)?;
                }
            }
            (Some("abort"), State::Active(_)) => {
                if let State::Active(upload) = std::mem::replace(&mut *state, State::Idle) {
                    upload.remove()?;
                }
                tell(peer, &json!({ "type": "aborted" }));
            }
            _ => return Err(Refused::policy("the command is unknown, or out of place")),
        }
        Ok(())
    }

    /// Writes content to the disk.
    fn content(&mut self, peer: &Peer, fragment: FragmentRef<'_>) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        let State::Active(upload) = &mut *state else {
            // A message may end with an empty frame, when the file is complete already.
            return if fragment.is_empty() { Ok(()) } else { Err(Refused::policy("there is no file to write to")) };
        };
        upload.write(fragment.as_bytes())?;
        let offset = upload.offset();
        if upload.is_complete() {
            if let State::Active(upload) = std::mem::replace(&mut *state, State::Idle) {
                done(peer, upload)?;
            }
        } else if fragment.is_last() || offset - self.acknowledged >= ACKNOWLEDGE_EVERY {
            self.acknowledged = offset;
            tell(peer, &json!({ "type": "received", "offset": offset }));
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        *lock(&self.state) = State::Closed;
    }
}

/// Goes on with an upload, on a thread of its own: a large file takes long to read, and another connection may have to let it
/// go, whose events are for the thread that would wait.
fn resume(store: &Arc<Store>, id: &Id, state: &Mutex<State>, peer: &Peer) {
    let resumed = store.resume(id, peer);
    let mut state = lock(state);
    if matches!(*state, State::Closed) {
        return;
    }
    let outcome = match resumed {
        Ok(Resumed::Part(upload)) => ready(peer, upload),
        Ok(Resumed::Whole(stored)) => {
            tell_text(peer, stored.message("done"));
            Ok(State::Idle)
        }
        Err(refused) => Err(refused),
    };
    *state = outcome.unwrap_or_else(|refused| {
        refuse(peer, &refused);
        State::Closed
    });
}

/// Tells the client from where on to send, if anything is missing.
fn ready(peer: &Peer, upload: Upload) -> Result<State, Refused> {
    tell(peer, &json!({ "type": "ready", "id": upload.id().to_string(), "offset": upload.offset() }));
    if upload.is_complete() {
        done(peer, upload)?;
        return Ok(State::Idle);
    }
    Ok(State::Active(upload))
}

fn done(peer: &Peer, upload: Upload) -> Result<(), Refused> {
    let stored = upload.finish()?;
    log::info!("{} has sent {}", peer.addr(), stored.id);
    tell_text(peer, stored.message("done"));
    Ok(())
}

fn tell(peer: &Peer, message: &Value) {
    tell_text(peer, message.to_string());
}

fn tell_text(peer: &Peer, message: String) {
    let _ = peer.send(message); // the client may have left: what it has sent stays
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut addr = None;
    let mut dir = PathBuf::from("uploads");
    let mut max_size = 64 << 30;
    let mut max_total = u64::MAX;
    let mut threads = 4;
    let mut certificate = Certificate::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("dir") => dir = parser.value()?.into(),
            Long("max-size") => max_size = parser.value()?.parse()?,
            Long("max-total") => max_total = parser.value()?.parse()?,
            Long("threads") => threads = parser.value()?.parse()?,
            Long("cert") => certificate.set_cert(parser.value()?),
            Long("key") => certificate.set_key(parser.value()?),
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    certificate.check()?;
    let addr = addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Ok(Some(Options { addr, dir, max_size, max_total, threads, certificate }))
}
