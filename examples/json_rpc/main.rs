//! Calls in JSON-RPC 2.0 over WebSocket, for those who have a token.
//!
//! ```sh
//! echo "ada a-long-random-token" >tokens
//! cargo run --release --features serde_json --example json_rpc -- --tokens tokens
//! cargo run --release --example client -- ws://127.0.0.1:8080 --header "Authorization: Bearer a-long-random-token"
//! ```
//!
//! and then, as lines to the client:
//!
//! ```text
//! {"jsonrpc":"2.0","method":"add","params":[1,2],"id":1}
//! {"jsonrpc":"2.0","method":"subscribe","params":{"topic":"news"},"id":2}
//! {"jsonrpc":"2.0","method":"publish","params":{"topic":"news","value":"it rains"}}
//! ```
//!
//! The token is checked before there is a WebSocket connection, in `tokens.rs`: by a few threads, because it takes long, and the
//! thread that accepts connections must not wait. Who it belongs to goes with the connection (`Accept::data`).
//! The specification, without the methods, is in `rpc.rs`.
//!
//! Who sees a token has it: on a network, this needs TLS. A page in a browser cannot set `Authorization` for a WebSocket. It
//! would send a cookie, or the token in its first message.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use common::tls::Certificate;
use lexopt::prelude::*;
use rpc::{CallError, Params};
use serde_json::{Value, json};
use threadbare::{CloseCode, Config, MessageRef, Request, Response, Server, Socket, SubscribeError};
use tokens::{Checkers, Tokens, User};

mod rpc;
mod tokens;

const USAGE: &str = "\
Calls in JSON-RPC 2.0 over WebSocket, for those who have a token: add, whoami, subscribe, unsubscribe, publish.

Usage: json_rpc [ADDR] --tokens FILE [OPTIONS]

  ADDR                    where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --tokens FILE           who may come: a line for each, with a name, a space, and a token
  --check-time MS         how long the check of a token takes, as that of another service would (default 100)
  --checkers N            how many tokens are checked at once (default 4)
  --cert FILE --key FILE  TLS, with this certificate chain and private key in PEM
                          (built with --features rustls-tls-webpki-roots)
  --help                  this text
";

/// The size of the largest call or batch.
const MAX_MESSAGE_SIZE: usize = 64 << 10;

/// The length of the longest topic.
const MAX_TOPIC: usize = 100;

/// The connection cannot have the subscription; of the codes that are the application's.
const NOT_SUBSCRIBED: i32 = -32000;

struct Options {
    addr: String,
    tokens: Tokens,
    check_time: Duration,
    checkers: usize,
    certificate: Certificate,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let checkers = Checkers::start(options.tokens, options.check_time, options.checkers)?;
    let builder = Server::builder()
        .config(Config::default().max_message_size(MAX_MESSAGE_SIZE))
        .on_request_deferred(move |request, pending| checkers.submit(&request, pending))
        .http(plain);
    let server = options.certificate.apply(builder)?.serve(&options.addr, |_request| on_message)?;
    options.certificate.announce(server.handle())?;
    server.join();
    Ok(())
}

/// Answers plain HTTP.
fn plain(request: &Request) -> Response {
    match (request.method(), request.path()) {
        ("GET" | "HEAD", "/health") => Response::new(200).text("up\n"),
        _ => Response::new(404).json(json!({ "error": "not_found" }).to_string()),
    }
}

/// Answers a call, or a batch of calls.
fn on_message(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    if !message.is_text() {
        let _ = socket.close(CloseCode::UNSUPPORTED_DATA, "JSON is text"); // it may be closing, here and below
        return;
    }
    if let Some(answer) = rpc::answer(message, |method, params| call(socket, method, params)) {
        let _ = socket.send_json(&answer);
    }
}

/// Calls a method.
fn call(socket: &mut Socket<'_>, method: &str, params: Params<'_>) -> Result<Value, CallError> {
    match method {
        "add" => {
            let [a, b] = params.take(["a", "b"])?;
            let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) else {
                return Err(CallError::invalid_params("a and b are integers"));
            };
            Ok(json!(a.checked_add(b).ok_or_else(|| CallError::invalid_params("the sum is too large"))?))
        }
        "whoami" => {
            let [] = params.take([])?;
            Ok(json!(user(socket)))
        }
        "subscribe" => {
            let [topic] = params.take(["topic"])?;
            match socket.subscribe(topic_name(topic)?) {
                Ok(_) => Ok(json!(true)),
                Err(SubscribeError::InvalidName(error)) => Err(CallError::invalid_params(error.to_string())),
                Err(error) => Err(CallError::new(NOT_SUBSCRIBED, "Not subscribed", error.to_string())),
            }
        }
        "unsubscribe" => {
            let [topic] = params.take(["topic"])?;
            socket.unsubscribe(topic_name(topic)?);
            Ok(json!(true))
        }
        "publish" => {
            let [topic, value] = params.take(["topic", "value"])?;
            let topic = topic_name(topic)?;
            let params = json!({ "topic": topic, "value": value, "by": user(socket) });
            socket.publish(topic, rpc::notification("published", &params).to_string());
            Ok(json!(true))
        }
        _ => Err(CallError::method_not_found()),
    }
}

/// Whose token the connection has.
fn user<'a>(socket: &'a Socket<'_>) -> Option<&'a str> {
    socket.data::<User>().map(|user| user.name.as_str())
}

fn topic_name(value: &Value) -> Result<&str, CallError> {
    let name = value.as_str().filter(|name| (1..=MAX_TOPIC).contains(&name.len()));
    name.ok_or_else(|| CallError::invalid_params(format!("a topic is a text of 1 to {MAX_TOPIC} bytes")))
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut addr = None;
    let mut tokens = None;
    let mut check_time = Duration::from_millis(100);
    let mut checkers = 4;
    let mut certificate = Certificate::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("tokens") => {
                let path = parser.value()?;
                tokens = Some(Tokens::read(path.as_ref()).map_err(|error| format!("--tokens: {error}"))?);
            }
            Long("check-time") => check_time = Duration::from_millis(parser.value()?.parse()?),
            Long("checkers") => checkers = parser.value()?.parse()?,
            Long("cert") => certificate.set_cert(parser.value()?),
            Long("key") => certificate.set_key(parser.value()?),
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    certificate.check()?;
    let addr = addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let tokens = tokens.ok_or("--tokens is missing")?;
    Ok(Some(Options { addr, tokens, check_time, checkers, certificate }))
}
