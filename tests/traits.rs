//! The traits that applications rely on (C-COMMON-TRAITS of the Rust API guidelines).

use crate::common;

use std::collections::{HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::hash::Hash;

use common::{Client as RawClient, DEADLINE};
use threadbare::{
    Batch, Client, ClientBuilder, ClientPool, CloseCause, CloseCode, CloseFrame, CloseReason, Config, ConnectionState,
    Event, Events, Message, MessageRef, Outage, Peer, PeerId, Pending, PendingResponse, Prepared, Reconnect,
    ReconnectingClient, ReconnectingSender, Request, Response, Server, ServerBuilder, ServerHandle, StateChanges,
    Stats, Url, WebSocket,
};

fn send_and_sync<T: Send + Sync + 'static>() {}

fn send<T: Send + 'static>() {}

fn debug<T: Debug>() {}

fn values<T: Clone + Debug + Eq + Hash>() {}

#[test]
fn handles_are_send_and_sync() {
    send_and_sync::<Peer>();
    send_and_sync::<Server>();
    send_and_sync::<ServerHandle>();
    send_and_sync::<Events>();
    send_and_sync::<Client>();
    send_and_sync::<ClientPool>();
    send_and_sync::<ReconnectingClient>();
    send_and_sync::<ReconnectingSender>();
    send_and_sync::<StateChanges>();
    send_and_sync::<Prepared>();
    send_and_sync::<Pending>();
    send_and_sync::<PendingResponse>();
    send_and_sync::<Request>();
    send_and_sync::<Outage>();
    send_and_sync::<ConnectionState>();
    send::<Batch>();
    send::<Event>();
    send::<WebSocket<std::net::TcpStream>>();
}

#[test]
fn values_can_be_compared_and_hashed() {
    values::<Peer>();
    values::<PeerId>();
    values::<Message>();
    values::<MessageRef<'_>>();
    values::<CloseCode>();
    values::<CloseFrame>();
    values::<CloseReason>();
    values::<CloseCause>();
    debug::<(Config, Response, Stats, Url)>();
    assert_eq!(Config::default(), Config::default());
    assert_ne!(Config::default(), Config::default().max_headers(7));
    let displayed: [&dyn Display; 2] = [&CloseCode(1000), &Message::from("hello")];
    assert_eq!(displayed.map(ToString::to_string), ["1000", "hello"]);
}

#[test]
fn builders_have_the_defaults_of_their_constructors() {
    let server = ServerBuilder::default().workers(1).bind("127.0.0.1:0").expect("a server");
    let url = format!("ws://{}/", server.local_addr());
    let _client = ClientBuilder::default().no_proxy().connect(&url).expect("connected");
    let _client = Client::builder().no_proxy().reconnect(&url, Reconnect::default()).expect("a client");
}

#[test]
fn a_close_code_is_a_number_and_back() {
    for code in [0, 1000, 1005, 4999, u16::MAX] {
        assert_eq!(u16::from(CloseCode::from(code)), code);
    }
    assert_eq!(CloseCode::from(1001), CloseCode::GOING_AWAY);
}

#[test]
#[allow(clippy::mutable_key_type)] // a peer is hashed by its id, which does not change
fn a_peer_is_a_key_of_a_map() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let _clients = [RawClient::open(server.local_addr()), RawClient::open(server.local_addr())];
    let mut names = HashMap::new();
    while names.len() < 2 {
        if let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") {
            names.insert(peer.clone(), peer.id().to_string());
        }
    }
    for (peer, id) in &names {
        assert_eq!((names.get(&peer.clone()), &peer.id().to_string()), (Some(id), id));
    }
    assert_eq!(names.keys().map(Peer::id).collect::<HashSet<_>>().len(), 2);
}

#[test]
fn a_server_without_receivers_has_no_events() {
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    assert!(server.events().is_some());
    let _taken = server.take_events();
    assert!(server.events().is_none() && server.recv().is_err());
}
