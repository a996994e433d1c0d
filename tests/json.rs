//! Values as JSON, in each way in and out.

use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use threadbare::{
    Client, ClientError, CloseCode, Codec, Config, Event, Json, JsonTransferError, Message, MessageRef, Reconnect,
    Role, Server, Socket, SocketError, StreamOptions, WebSocket,
};

fn value() -> Value {
    json!({ "name": "größer", "prices": [1, 2.5, null], "nested": { "is_open": true } })
}

#[test]
fn a_handler_a_client_and_a_reconnecting_client_exchange_values() {
    let server = Server::builder()
        .workers(1)
        .serve("127.0.0.1:0", |_request| {
            |socket: &mut Socket<'_>, message: MessageRef<'_>| {
                let value: Value = message.json().expect("JSON");
                assert!(socket.send_json(&json!({ "echo": value })).expect("JSON"));
            }
        })
        .expect("a port");
    let url = format!("ws://{}", server.local_addr());
    let client = Client::connect(&url).expect("connected");
    client.send_json(&value()).expect("sent");
    assert_eq!(client.recv_json::<Value>().expect("received"), Some(json!({ "echo": value() })));
    let client = Client::builder().reconnect(&url, Reconnect::new()).expect("settings");
    client.send_json(&value()).expect("sent");
    assert_eq!(client.recv_json::<Value>().expect("received"), Some(json!({ "echo": value() })));
}

#[test]
fn a_value_that_does_not_match_is_an_error_and_the_next_message_follows() {
    let server = Server::bind("127.0.0.1:0").expect("a port");
    let client = Client::connect(&format!("ws://{}", server.local_addr())).expect("connected");
    let Event::Open(peer, _) = server.recv().expect("an event") else { panic!("the first event") };
    peer.send("no JSON").expect("sent");
    peer.send_json(&"text").expect("sent");
    peer.send(br#"["binary", 7]"#).expect("sent");
    let error = client.recv_json::<u32>().expect_err("no JSON");
    assert!(
        matches!(&error, JsonTransferError::Json(error) if error.to_string().contains("line 1 column 2")),
        "{error:?}"
    );
    let error = client.recv_json::<u32>().expect_err("a text");
    assert!(
        matches!(&error, JsonTransferError::Json(error) if error.to_string().contains("expected u32")),
        "{error:?}"
    );
    assert_eq!(client.recv_json::<(String, u32)>().expect("received"), Some(("binary".to_owned(), 7)));
    peer.abort();
    let error = client.recv_json::<u32>().expect_err("it is lost");
    assert!(matches!(error, JsonTransferError::Transfer(ClientError::Failed(_))), "{error:?}");
}

#[test]
fn what_is_no_json_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let config = Config::default();
    let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    let mut server = WebSocket::from_established(listener.accept().expect("a client").0, Role::Server, vec![], &config);
    // JSON's keys are text.
    let invalid = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(client.send_json(&invalid), Err(JsonTransferError::Json(_))));
    client.send_json(&value()).expect("sent");
    assert_eq!(server.recv().expect("received").map(|message| message.is_text()), Some(true));
    client.send_json(&value()).expect("sent");
    assert_eq!(server.recv_json::<Value>().expect("received"), Some(value()));
    assert_eq!(client.stats().messages_sent, 2);
    assert_eq!(Message::from("[1]").json::<[u8; 1]>().expect("JSON"), [1]);
}

/// Nothing of a value that fails half-way is sent, and a value waits for the end of a message in parts as others do.
#[test]
fn values_of_any_size_are_sent_in_order_by_a_handler_and_a_socket() {
    const SIZES: [usize; 6] = [0, 123, 124, 300, 65_534, 200_000];
    let half_way = || ("x".repeat(1_000), std::collections::BTreeMap::from([((1, 2), 3)]));
    let server = Server::builder().workers(1).serve("127.0.0.1:0", move |_request| {
        move |socket: &mut Socket<'_>, _: MessageRef<'_>| {
            assert!(socket.send("before"));
            let error = socket.send_json(&half_way()).expect_err("a key that is no text");
            assert!(error.to_string().contains("key must be a string"), "{error}");
            for size in SIZES {
                assert!(socket.send_json(&"y".repeat(size)).expect("JSON"));
            }
            assert!(socket.send_stream(&b"in parts"[..], StreamOptions::text()));
            assert!(socket.send_json("behind").expect("JSON"));
        }
    });
    let server = server.expect("a port");
    let (listener, stream) =
        (TcpListener::bind("127.0.0.1:0").expect("a port"), TcpStream::connect(server.local_addr()));
    let url = format!("ws://{}", server.local_addr());
    let mut client = WebSocket::connect(&url, stream.expect("connected")).expect("accepted");
    client.send("go").expect("sent");
    let next = |client: &mut WebSocket<TcpStream>| client.recv().expect("received").expect("not closed");
    assert_eq!(next(&mut client), Message::from("before"));
    for size in SIZES {
        assert_eq!(next(&mut client), Message::from(format!("\"{}\"", "y".repeat(size))));
    }
    assert_eq!((next(&mut client), next(&mut client)), (Message::from("in parts"), Message::from("\"behind\"")));

    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let config = Config::default();
    let mut server = WebSocket::from_established(listener.accept().expect("a client").0, Role::Server, vec![], &config);
    let sender = std::thread::spawn(move || {
        let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
        for size in SIZES {
            assert!(matches!(client.send_json(&half_way()), Err(JsonTransferError::Json(_))));
            client.send_json(&"y".repeat(size)).expect("sent");
        }
        client
    });
    for size in SIZES {
        assert_eq!(next(&mut server), Message::from(format!("\"{}\"", "y".repeat(size))));
    }
    let mut client = sender.join().expect("no panic");
    client.close(CloseCode::NORMAL_CLOSURE, "").expect("sent");
    let closed = client.send_json(&1);
    assert!(matches!(closed, Err(JsonTransferError::Transfer(SocketError::Closed))), "{closed:?}");
}

#[test]
fn an_error_names_the_field() {
    let error = |text: &str| Message::from(text).json::<Vec<(String, u32)>>().expect_err("it does not fit").to_string();
    assert_eq!(
        error(r#"[["a", 1], ["b", -1]]"#),
        "[1][1]: invalid value: integer `-1`, expected u32 at line 1 column 19"
    );
    assert_eq!(error("{}"), "invalid type: map, expected a sequence at line 1 column 0");
    assert!(error(r#"[["a", 1]"#).contains("EOF"), "the text ends too early");
    // What a peer sent can not steer a terminal.
    assert!(error("[[\"\\u001b[31m\", \"\\u001b[31m\"]]").chars().all(|character| !character.is_control()));
    let codec_error = Codec::<u32>::decode(&Json, MessageRef::Text("x")).expect_err("no number");
    assert_eq!(codec_error.to_string(), "expected value at line 1 column 1");
}
