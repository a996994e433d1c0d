//! The chat, with its metrics for a monitor at `/metrics`, its connections at `/peers`, and a page that plots them at
//! `/dashboard`.
//!
//! ```sh
//! cargo run --release --example dashboard -- 127.0.0.1:8080
//! ```
//!
//! Open `http://127.0.0.1:8080/dashboard`, and `http://127.0.0.1:8080/` in other windows to chat. The page is in
//! `dashboard.html`.
//!
//! Everyone who reaches the port sees the addresses of all clients at `/peers`. A server for the public lets only its
//! operator see them: in the hook below, or in the proxy in front of it.

use std::cmp::Reverse;
use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use common::page;
use rooms::Rooms;
use serde_json::json;
use threadbare::{
    Accept, CloseReason, Config, Handler, MessageRef, PeerSummary, PendingResponse, Request, Response, Server,
    ServerHandle, SlowConsumer, Socket,
};

#[path = "../chat/rooms.rs"]
mod rooms;

const USAGE: &str = "\
The chat, with a page of its metrics at /dashboard, and the metrics themselves at /metrics.

Usage: dashboard [ADDR]

  ADDR    where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --help  this text
";

/// The size of the longest message: its text with every character as two JSON escapes of six bytes.
const MAX_MESSAGE_SIZE: usize = rooms::MAX_TEXT * 12 + 1024;

/// How many requests for the list of connections wait at most. Each asks all workers; more of them are answered 500.
const MAX_WAITING: usize = 16;

/// How long the workers have to say which connections they have. Those of a worker that is busy for longer are missing
/// from the list.
const LIST_TIMEOUT: Duration = Duration::from_millis(500);

/// How many connections the list has at most. It is fetched once a second by each page that is open.
const MAX_LISTED: usize = 200;

/// What answers plain requests: the pages, the metrics and the list.
type Page = Box<dyn Fn(&Request) -> Response + Send>;

/// A person in the chat. A handler runs on the worker's thread, so that the metrics have the time of its callbacks. All
/// workers share the rooms, and a callback may wait for another that holds them: the page shows that too.
struct Person {
    rooms: Arc<OnceLock<Mutex<Rooms>>>,
}

impl Person {
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        // They are made as soon as the server has a handle, which may be a moment after the first connection.
        self.rooms.wait().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Person {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        self.rooms().receive(&socket.peer(), &message.into());
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, reason: &CloseReason) {
        log::info!("{} left: {reason}", socket.addr());
        self.rooms().leave(&socket.peer());
    }
}

fn main() -> ExitCode {
    common::main(USAGE, common::parse_addr, serve)
}

fn serve(addr: String) -> Result<(), Box<dyn Error>> {
    let config = Config::default()
        .max_message_size(MAX_MESSAGE_SIZE)
        // A callback must not wait for a client whose network is slow.
        .slow_consumer(SlowConsumer::Disconnect);
    let page: Page = Box::new(page::serve_files(&[
        ("/", "text/html", include_str!("../chat/page.html")),
        ("/page.css", "text/css", include_str!("../chat/page.css")),
        ("/page.js", "text/javascript", include_str!("../chat/page.js")),
        page::CONNECTION,
        ("/dashboard", "text/html", include_str!("dashboard.html")),
        ("/dashboard.css", "text/css", &page::plots_style(include_str!("dashboard.css"))),
        ("/dashboard.js", "text/javascript", include_str!("dashboard.js")),
        page::PLOTS,
    ]));
    let (to_list, requests) = mpsc::sync_channel::<PendingResponse>(MAX_WAITING);
    thread::spawn(move || answer_lists(&requests));

    let rooms = Arc::new(OnceLock::new());
    let shared = Arc::clone(&rooms);
    let server = rooms::topics(Server::builder())
        .config(config)
        .on_request(only_chat)
        .http_deferred(move |request, pending| match (request.method(), request.path()) {
            ("GET" | "HEAD", "/metrics") => {
                let response = pending.server().stats().response();
                pending.respond(response);
            }
            // The workers answer this, and the thread that is here must not wait for them.
            ("GET" | "HEAD", "/peers") => drop(to_list.try_send(pending)),
            (_, "/metrics" | "/peers") => pending.respond(Response::new(405).header("Allow", "GET, HEAD")),
            _ => pending.respond(page(&request)),
        })
        .serve(&addr, move |_request| Person { rooms: Arc::clone(&shared) })?;
    let _ = rooms.set(Mutex::new(Rooms::new(server.handle()))); // set once, here
    common::announce(&server)?;
    server.join();
    Ok(())
}

/// Accepts WebSocket handshakes at `/ws` only.
fn only_chat(request: &Request) -> Result<Accept, Response> {
    match request.path() {
        "/ws" => Ok(Accept::new()),
        _ => Err(Response::new(404).text("the chat is at /ws\n")),
    }
}

/// Answers requests for the list of connections, until the server has ended.
fn answer_lists(requests: &Receiver<PendingResponse>) {
    for pending in requests {
        let list = list_of_peers(pending.server());
        pending.respond(Response::new(200).json(list).header("Cache-Control", "no-store"));
    }
}

/// The connections in JSON: those with the most bytes to be written, and of these the oldest, first.
fn list_of_peers(server: &ServerHandle) -> String {
    let mut peers = server.peers(LIST_TIMEOUT);
    peers.sort_by_key(|peer| Reverse((peer.stats.queued_bytes, peer.age)));
    let list: Vec<_> = peers.iter().take(MAX_LISTED).map(describe).collect();
    json!(list).to_string()
}

fn describe(peer: &PeerSummary) -> serde_json::Value {
    json!({
        "id": peer.id.to_string(),
        "address": peer.addr.to_string(),
        "age_seconds": peer.age.as_secs_f64(),
        "open": peer.is_open,
        "queued_bytes": peer.stats.queued_bytes,
        "messages_received": peer.stats.messages_received,
        "messages_sent": peer.stats.messages_sent,
    })
}
