//! A server with TLS that another takes over: its listeners travel, connections over TLS do not.
#![cfg(target_os = "linux")]

use std::path::Path;

use threadbare::{Client, CloseCode, Config, Handler, Listener, Message, MessageRef, Server, Socket, Tls};
use threadbare_tls_tests::{Authority, DEADLINE};

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        Some(Vec::new())
    }
}

fn start(place: &Path, tls: &Tls) -> Server {
    let listeners = [Listener::from("127.0.0.1:0"), Listener::from("127.0.0.1:0").tls(tls.clone())];
    let builder = Server::builder()
        .workers(2)
        .config(Config::default().drop_timeout(std::time::Duration::from_secs(2)))
        .hand_over(place);
    builder.serve(listeners, |_request| Echo).expect("a server")
}

#[test]
fn connections_over_tls_are_closed_with_1012_behind_their_output() {
    let place = std::env::temp_dir().join(format!("threadbare-tls-handover-{}.sock", std::process::id()));
    let authority = Authority::new();
    let tls = authority.server();
    let server = start(&place, &tls);
    let [plain, secure] = [0, 1].map(|index| server.local_addrs()[index].as_socket_addr().expect("an address"));
    let connect = |url: String| Client::builder().no_proxy().tls(authority.client()).connect(&url).expect("connected");
    let stays = connect(format!("ws://{plain}"));
    let goes = connect(format!("wss://{secure}"));
    for number in 0..100 {
        goes.send(format!("{number}")).expect("sent");
    }
    let expect = |client: &Client, text: &str| {
        assert_eq!(client.recv_timeout(DEADLINE).expect("received"), Some(Message::from(text)));
    };
    expect(&goes, "0");
    let next = start(&place, &tls);
    // What it sent in time is answered, and nothing comes but the close behind it.
    while goes.recv_timeout(DEADLINE).expect("a clean end").is_some() {}
    assert_eq!(goes.close_reason().map(|reason| reason.code), Some(CloseCode::SERVICE_RESTART));
    server.join();
    stays.send("on").expect("sent");
    expect(&stays, "on");
    let again = connect(format!("wss://{secure}"));
    again.send("again").expect("sent");
    expect(&again, "again");
    assert_eq!(next.handle().connections(), 2);
}
