//! One server, with TLS at some of its listeners.

use std::time::Duration;

use threadbare::{Client, ConnectError, Handler, Listener, Message, MessageRef, Server, Socket, TlsError};
use threadbare_tls_tests::Authority;

const DEADLINE: Duration = Duration::from_secs(30);

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

fn ports(server: &Server) -> Vec<u16> {
    server
        .local_addrs()
        .iter()
        .map(|addr| addr.to_string().rsplit(':').next().and_then(|port| port.parse().ok()))
        .map(|port| port.expect("a port"))
        .collect()
}

fn echoes(client: Result<Client, ConnectError>) {
    let client = client.expect("connected");
    client.send("hello").expect("sent");
    assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))));
}

#[test]
fn a_server_speaks_tls_at_one_listener_and_none_at_another() {
    let (authority, other) = (Authority::new(), Authority::new());
    for workers in [1, 2] {
        let listeners = vec![
            Listener::from("127.0.0.1:0").tls(authority.server()),
            Listener::from("127.0.0.1:0"),
            Listener::from("127.0.0.1:0").tls(other.server()),
        ];
        let server = Server::builder().workers(workers).serve(listeners, |_| Echo).expect("a server");
        let [first, plain, second] = ports(&server)[..] else { panic!("three listeners") };
        let trusting = |authority: &Authority| Client::builder().tls(authority.client());
        echoes(trusting(&authority).connect(&format!("wss://localhost:{first}")));
        echoes(Client::connect(&format!("ws://localhost:{plain}")));
        echoes(trusting(&other).connect(&format!("wss://localhost:{second}")));
        let refused = trusting(&authority).connect(&format!("wss://localhost:{second}")).expect_err("another issuer");
        assert!(matches!(refused, ConnectError::Tls { source: TlsError::UnknownIssuer, .. }), "{refused:?}");
        let refused = trusting(&authority).connect(&format!("wss://localhost:{plain}")).expect_err("no TLS");
        assert!(matches!(refused, ConnectError::Tls { source: TlsError::NotTls, .. }), "{refused:?}");
    }
}

#[test]
fn a_listener_without_settings_of_its_own_has_those_of_the_server() {
    let (authority, other) = (Authority::new(), Authority::new());
    let listeners = vec![Listener::from("127.0.0.1:0"), Listener::from("127.0.0.1:0").tls(other.server())];
    let server = Server::builder().workers(1).tls(authority.server()).serve(listeners, |_| Echo).expect("a server");
    let [first, second] = ports(&server)[..] else { panic!("two listeners") };
    echoes(Client::builder().tls(authority.client()).connect(&format!("wss://localhost:{first}")));
    echoes(Client::builder().tls(other.client()).connect(&format!("wss://localhost:{second}")));
}
