//! Whom a client refuses, and how it says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use threadbare::{
    Client, ClientError, ClientLoop, ClientPool, ClientTls, Config, ConnectError, ConnectionState, Ended, Handler,
    Message, MessageRef, Outage, Phase, Reconnect, Server, Socket, Tls, TlsError,
};
use threadbare_tls_tests::{Authority, Certified, DEADLINE, RawServer, TLS12, TLS13, provider};
use time::{Duration as Days, OffsetDateTime};

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

fn server(tls: Tls) -> Server {
    Server::builder().workers(1).tls(tls).serve("127.0.0.1:0", |_| Echo).expect("a server")
}

fn url(host: &str, addr: SocketAddr) -> String {
    format!("wss://{host}:{}/", addr.port())
}

/// The error of TLS by which every kind of client is refused, or refuses.
fn refused(url: &str, tls: &ClientTls) -> TlsError {
    let of = |error: ConnectError| match error {
        ConnectError::Tls { addr, source } => {
            assert!(url.contains(&addr), "{addr} of {url}");
            source
        }
        error => panic!("{error:?}"),
    };
    let builder = Client::builder().no_proxy().tls(tls.clone());
    let error = of(builder.connect(url).expect_err("refused"));

    let pool = ClientPool::new(1, Config::default()).expect("a pool");
    assert_eq!(of(builder.clone().pool(&pool).connect(url).expect_err("refused")), error);

    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    assert_eq!(of(builder.connect_inline(url, &mut client_loop).expect_err("refused")), error);

    let retry = Reconnect::new().retry_if(|_| false);
    let client = builder.reconnect(url, retry).expect("a client");
    let Err(ClientError::Failed(Ended::Final(outage))) = client.recv_timeout(DEADLINE) else { panic!("not refused") };
    let Outage::Connect(ConnectError::Tls { source, .. }) = &*outage else { panic!("{outage:?}") };
    assert_eq!(source, &error);
    error
}

#[test]
fn a_30_each_fault_of_a_certificate_has_an_error_of_its_own() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = authority.client();
    let now = OffsetDateTime::now_utc();
    let names = ["localhost"];
    let cases = [
        (other.issue(&names), TlsError::UnknownIssuer),
        (Certified::self_signed(&names), TlsError::UnknownIssuer),
        (authority.issue_for(&names, now - Days::days(2), now - Days::days(1)), TlsError::Expired),
        (authority.issue_for(&names, now + Days::days(1), now + Days::days(2)), TlsError::NotYetValid),
    ];
    for (certified, expected) in cases {
        let server = server(certified.server());
        assert_eq!(refused(&url("localhost", server.local_addr()), &tls), expected);
    }
}

#[test]
fn a_30_an_issuer_with_the_name_of_a_trusted_one_is_refused() {
    let (trusted, other) = (Authority::called("the same"), Authority::called("the same"));
    let server = server(other.server());
    let error = refused(&url("localhost", server.local_addr()), &trusted.client());
    assert!(error.to_string().contains("the trusted issuer of that name has another key"), "{error}");
}

#[test]
fn a_30_a_wrong_name_is_refused_and_the_names_of_the_certificate_are_told() {
    let authority = Authority::new();
    let names = ["a.example", "*.b.example", "127.0.0.2", "::2"];
    let server = server(authority.issue(&names).server());
    let presented: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    for host in ["localhost", "127.0.0.1"] {
        let error = refused(&url(host, server.local_addr()), &authority.client());
        assert_eq!(error, TlsError::WrongName { expected: host.to_owned(), presented: presented.clone() });
        let text = format!("the certificate is not for {host}, but for a.example, *.b.example, 127.0.0.2, ::2");
        assert_eq!(error.to_string(), text);
    }
    // A name of one's own is asked for, and must be there.
    let as_b = |name: &str| {
        let tls = ClientTls::builder().root_pem(authority.root()).no_default_roots().server_name(name).build();
        Client::builder().no_proxy().tls(tls.expect("a name")).connect(&url("localhost", server.local_addr()))
    };
    as_b("x.b.example").expect("a wildcard stands for one label");
    for name in ["b.example", "y.x.b.example", "b.example.org"] {
        assert!(matches!(as_b(name), Err(ConnectError::Tls { source: TlsError::WrongName { .. }, .. })), "{name}");
    }
}

#[test]
fn ip_addresses_are_names() {
    let authority = Authority::new();
    for host in ["127.0.0.1", "::1"] {
        let tls = authority.issue(&[host]).server();
        let builder = Server::builder().workers(1).tls(tls);
        let server = match builder.serve((host, 0), |_| Echo) {
            // This system has no IPv6.
            Err(_) if host == "::1" => return,
            server => server.expect("a server"),
        };
        let url = format!("wss://{}/", server.local_addr());
        let client = Client::builder().no_proxy().tls(authority.client()).connect(&url).expect("connected");
        client.send("hello").expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))));
    }
}

#[test]
fn a_30_nothing_insecure_is_the_default() {
    let authority = Authority::new();
    let server = server(authority.server());
    let url = url("localhost", server.local_addr());
    let default = || Client::builder().no_proxy().connect(&url).expect_err("nobody trusts this authority");
    assert!(matches!(default(), ConnectError::Tls { source: TlsError::UnknownIssuer, .. }));
    let tls = ClientTls::builder().build().expect("the default roots");
    assert_eq!(refused(&url, &tls), TlsError::UnknownIssuer);
    let none = ClientTls::builder().no_default_roots().build().expect_err("no roots");
    assert!(matches!(&none, TlsError::Setup(why) if why.contains("add a root")), "{none}");
}

/// Has the certificate of one, and the key of another.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn a_30_any_certificate_may_be_accepted_and_the_signature_is_checked_still() {
    let authority = Authority::new();
    let now = OffsetDateTime::now_utc();
    let expired = authority.issue_for(&["a.example"], now - Days::days(2), now - Days::days(1));
    let tls = ClientTls::builder().no_default_roots().danger_accept_any_certificate().build().expect("settings");
    for certified in [expired.clone(), Certified::self_signed(&["a.example"])] {
        let server = server(certified.server());
        let builder = Client::builder().no_proxy().tls(tls.clone());
        let client = builder.connect(&url("localhost", server.local_addr())).expect("accepted");
        client.send("hello").expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))));
    }

    let (chain, _) = expired.to_der();
    let (_, key) = authority.issue(&["a.example"]).to_der();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key");
    let impostor = Arc::new(Impostor(Arc::new(CertifiedKey::new(chain, key))));
    for versions in [TLS12, TLS13] {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
        let config = builder.expect("a version").with_no_client_auth().with_cert_resolver(impostor.clone());
        let server = server(Tls::from_rustls(Arc::new(config)));
        let error = refused(&url("localhost", server.local_addr()), &tls);
        assert!(error.to_string().contains("the server has not the certificate's key"), "{error}");
    }
}

/// Answers each client with these bytes, and reads until the client ends.
fn answering(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                stream.write_all(bytes).expect("written");
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    addr
}

#[test]
fn a_30_a_port_without_tls_is_told() {
    let tls = Authority::new().client();
    let plain = Server::builder().workers(1).serve("127.0.0.1:0", |_| Echo).expect("a server");
    assert_eq!(refused(&url("localhost", plain.local_addr()), &tls), TlsError::NotTls);
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"220 ready\r\n", b"SSH-2.0-OpenSSH_9\r\n", &[0; 100]] {
        assert_eq!(refused(&url("localhost", answering(bytes)), &tls), TlsError::NotTls);
    }
    assert!(TlsError::NotTls.to_string().contains("use ws://"));
}

#[test]
fn a_port_that_says_nothing_is_given_up_at_the_deadline() {
    let config = Config::default().handshake_timeout(Duration::from_millis(200));
    let builder = Client::builder().no_proxy().tls(Authority::new().client());
    // In the middle of a record, too.
    for bytes in [&b""[..], b"\x16\x03\x03\x00\x50\x02"] {
        let error = builder.clone().config(config.clone()).connect(&url("localhost", answering(bytes)));
        let error = error.expect_err("nothing is said");
        assert!(matches!(error, ConnectError::Timeout { phase: Phase::Tls, .. }), "{error:?}");
    }
}

#[test]
fn a_server_that_ends_tcp_in_the_handshake_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).expect("the beginning of a ClientHello");
        stream.shutdown(std::net::Shutdown::Write).expect("a socket");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let error = Client::builder().no_proxy().tls(Authority::new().client()).connect(&url("localhost", addr));
    let Err(ConnectError::Io { source, .. }) = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::UnexpectedEof);
    thread.join().expect("the server");
}

#[test]
fn peers_without_a_version_in_common_are_told() {
    let authority = Authority::new();
    for (of_server, of_client) in [(TLS12, TLS13), (TLS13, TLS12)] {
        // Our server to their client, and their server to ours.
        let tls = Tls::from_rustls(Arc::new(authority.rustls_server(of_server)));
        let client = ClientTls::from_rustls(Arc::new(authority.rustls_client(of_client)));
        let server = server(tls);
        assert_eq!(refused(&url("localhost", server.local_addr()), &client), TlsError::NoSharedVersion);
        // The same with a peer that is not this library's.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let config = authority.rustls_server(of_server);
        thread::spawn(move || RawServer::accept(&listener, config).map(drop).expect_err("no version"));
        let error = Client::builder().no_proxy().tls(client).connect(&url("localhost", addr)).expect_err("no version");
        assert!(matches!(error, ConnectError::Tls { source: TlsError::NoSharedVersion, .. }), "{error:?}");
    }
}

#[test]
fn peers_without_a_cipher_suite_in_common_are_told() {
    let authority = Authority::new();
    let mut other = rustls::crypto::ring::default_provider();
    other.cipher_suites = vec![rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let (chain, key) = authority.issue(&["localhost"]).to_der();
    let builder = ServerConfig::builder_with_provider(Arc::new(other)).with_protocol_versions(TLS13);
    let config = builder.expect("a suite").with_no_client_auth().with_single_cert(chain, key).expect("a certificate");
    let server = server(Tls::from_rustls(Arc::new(config)));
    let client = ClientTls::from_rustls(Arc::new(authority.rustls_client(TLS13)));
    assert_eq!(refused(&url("localhost", server.local_addr()), &client), TlsError::NoSharedCipher);
}

#[test]
fn a_client_that_trusts_nobody_yet_connects_once_the_certificate_is_replaced() {
    let authority = Authority::new();
    let now = OffsetDateTime::now_utc();
    let expired = authority.issue_for(&["localhost"], now - Days::days(2), now - Days::days(1)).server();
    let server = server(expired.clone());
    let wait = Duration::from_millis(10);
    let reconnect = Reconnect::new().initial_delay(wait).max_delay(wait);
    let builder = Client::builder().no_proxy().tls(authority.client());
    let client = builder.reconnect(&url("localhost", server.local_addr()), reconnect).expect("a client");
    while !matches!(client.state(), ConnectionState::Waiting { .. }) {
        thread::yield_now();
    }
    expired.replace(&authority.server());
    client.send("hello").expect("sent in the end");
    assert_eq!(client.recv_timeout(DEADLINE).expect("an echo"), Some(Message::from("hello")));
}

#[test]
fn a_certificate_that_can_not_be_used_is_told_before_anybody_connects() {
    let authority = Authority::new();
    let (one, other) = (authority.issue(&["a.example"]), authority.issue(&["b.example"]));
    let why = |error: Result<Tls, TlsError>| match error {
        Err(TlsError::Setup(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(Tls::from_pem(one.chain.clone(), other.key)).contains("not that of the first certificate"));
    assert!(why(Tls::from_pem("", one.key.clone())).contains("there is no certificate"));
    assert!(why(Tls::from_pem(one.chain, "")).contains("there is no private key"));
    assert!(why(Tls::from_pem_files("/nonexistent/chain", "/nonexistent/key")).contains("/nonexistent/chain"));
    assert!(why(Tls::builder().build()).contains("needs a certificate"));
    let error = ClientTls::builder().server_name("not a name").build().expect_err("no name");
    assert!(error.to_string().contains("not a name"), "{error}");
}
