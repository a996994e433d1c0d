//! permessage-deflate over real sockets: between our own ends, in every way in.

mod common;

use std::net::{TcpListener, TcpStream};
use std::thread;

use common::DEADLINE;
use common::app::{App, BOTH_WAYS, Way, echo};
use threadbare::{Client, Config, DeflateConfig, Message, Server, WebSocket};

fn config(deflate: DeflateConfig) -> Config {
    Config::default().max_message_size(4 << 20).deflate(deflate)
}

/// Both settings of context takeover, and a small window.
fn settings() -> [DeflateConfig; 3] {
    let default = DeflateConfig::default();
    [
        default.clone(),
        default.clone().server_no_context_takeover(false).client_no_context_takeover(false),
        default.server_max_window_bits(9).client_max_window_bits(10),
    ]
}

fn messages() -> Vec<Message> {
    let json = r#"{"id":1234,"name":"sensor","values":[1,2,3,4,5,6,7,8]}"#;
    let noise: Vec<u8> = (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut messages = vec![Message::from(""), Message::from("short"), Message::from(json.repeat(20))];
    messages.extend((0..50).map(|n| Message::from(format!("{n}: {}", json.repeat(1 + n % 7)))));
    messages.extend([Message::from(noise), Message::from(vec![0; 3 << 20]), Message::from("last".repeat(100))]);
    messages
}

#[test]
fn messages_survive_compression_in_both_modes_and_settings() {
    for way in BOTH_WAYS {
        for setting in settings() {
            let app = App::start(way, Server::builder().workers(1).config(config(setting.clone())), echo);
            let client = Client::builder().config(config(setting)).connect(&format!("ws://{}", app.addr));
            let client = client.expect("connected");
            let extensions = client.response().header("Sec-WebSocket-Extensions").expect("negotiated");
            assert!(extensions.starts_with("permessage-deflate"), "{extensions}");
            for message in messages() {
                client.send(message.clone()).expect("sent");
                assert!(client.recv_timeout(DEADLINE).expect("received") == message);
            }
            // Far less went over the wire than was said.
            let said: usize = messages().iter().map(Message::len).sum();
            let stats = client.stats();
            assert!(stats.bytes_sent < said as u64 / 10 && stats.bytes_received < said as u64 / 10, "{stats:?}");
            drop(client);
            app.finish();
        }
    }
}

#[test]
fn the_blocking_socket_compresses_too() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let accept = |_: &threadbare::Request| Ok(threadbare::Accept::new());
        let mut socket = WebSocket::accept_with(stream, &config(DeflateConfig::default()), accept).expect("accepted");
        while let Some(message) = socket.recv().expect("a message") {
            socket.send(&message).expect("sent");
        }
    });
    let request = threadbare::ClientRequest::new(threadbare::Url::parse(&format!("ws://{addr}/")).expect("a URL"));
    let stream = TcpStream::connect(addr).expect("connected");
    let mut socket = WebSocket::connect_with(request, stream, &config(DeflateConfig::default())).expect("accepted");
    for message in messages() {
        socket.send(&message).expect("sent");
        assert!(socket.recv().expect("received") == Some(message));
    }
    socket.close(threadbare::CloseCode::NORMAL_CLOSURE, "").expect("sent");
    assert!(socket.recv().expect("an end").is_none());
    server.join().expect("the server");
}
