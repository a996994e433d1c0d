//! Every public error type: `Display` says what went wrong at its own level, and `source()` is the cause.

use std::error::Error;
use std::io;
use std::sync::Arc;

use threadbare::protocol::handshake::AcceptError;
use threadbare::protocol::handshake::client::proxy::ProxyError;
use threadbare::protocol::http::{HeadError, ResponseError};
use threadbare::{
    BuildError, Client, ClientError, CloseCause, CloseCode, CloseFrame, CloseReason, ConfigError, ConnectError,
    ControlError, Ended, HandshakeError, HeaderError, InvalidClose, Outage, Phase, ProtocolError, RecvError,
    RecvTimeoutError, RedirectError, Response, SendError, SendTimeoutError, Server, SocketError, TlsError,
    TryRecvError, TrySendError, Url, UrlError,
};

/// Whether a cause is expected.
#[derive(Clone, Copy, PartialEq)]
enum Cause {
    Some,
    None,
}

fn io_error() -> io::Error {
    io::Error::other("the cause of it")
}

fn config_error() -> ConfigError {
    match Server::builder().workers(0).bind("127.0.0.1:0") {
        Err(BuildError::Config(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn connect_error() -> ConnectError {
    ConnectError::Url(UrlError::NoHost)
}

fn reason() -> CloseReason {
    CloseReason::new(CloseCode::GOING_AWAY, "a restart", CloseCause::Peer)
}

fn boxed<E: Error + 'static>(cause: Cause, errors: impl IntoIterator<Item = E>) -> Vec<(Cause, Box<dyn Error>)> {
    errors.into_iter().map(|error| (cause, Box::new(error) as Box<dyn Error>)).collect()
}

fn url() -> Url {
    Url::parse("ws://anna:secret@host/path").expect("a URL")
}

/// Each variant of each type that can be made from outside.
fn every_error() -> Vec<(Cause, Box<dyn Error>)> {
    let invalid = || InvalidClose::Code(CloseCode(1));
    let outage = || Arc::new(Outage::Connect(connect_error()));
    [
        boxed(Cause::None, [config_error()]),
        boxed(
            Cause::Some,
            [
                BuildError::Config(config_error()),
                BuildError::Io { operation: "127.0.0.1:80 can not be bound".into(), source: io_error() },
            ],
        ),
        boxed(Cause::None, [SendError::Disconnected(()), SendError::Full(()), SendError::Invalid(())]),
        boxed(Cause::None, [TrySendError::Disconnected(()), TrySendError::Full(()), TrySendError::Invalid(())]),
        boxed(
            Cause::None,
            [SendTimeoutError::Disconnected(()), SendTimeoutError::Timeout(()), SendTimeoutError::Invalid(())],
        ),
        boxed(Cause::None, [RecvError]),
        boxed(Cause::None, [TryRecvError::Empty, TryRecvError::Disconnected]),
        boxed(Cause::None, [RecvTimeoutError::Timeout, RecvTimeoutError::Disconnected]),
        boxed(Cause::None, [ControlError::Disconnected, ControlError::TooLong { size: 126 }]),
        boxed(Cause::Some, [ControlError::InvalidClose(invalid())]),
        boxed(Cause::None, [invalid(), InvalidClose::Reason { size: 124 }]),
        boxed(Cause::None, [reason()]),
        boxed(Cause::None, [ClientError::<CloseReason>::Empty, ClientError::Timeout]),
        boxed(Cause::Some, [ClientError::Failed(reason())]),
        boxed(Cause::Some, [ClientError::Failed(Ended::Panicked)]),
        boxed(
            Cause::Some,
            [
                ConnectError::Url(UrlError::NoHost),
                ConnectError::Header(HeaderError::InvalidName("a b".into())),
                ConnectError::Config(config_error()),
                ConnectError::Resolve { host: "host".into(), source: io_error() },
                ConnectError::Io { operation: "no connection to host:80".into(), source: io_error() },
                ConnectError::Hook(io_error()),
                ConnectError::Proxy { addr: "proxy:3128".into(), source: ProxyError::Credentials },
                ConnectError::Handshake { url: "ws://host/".into(), source: HandshakeError::Http10 },
                ConnectError::Redirect(RedirectError::Status(300)),
                ConnectError::Tls { addr: "host:443".into(), source: TlsError::Unavailable },
            ],
        ),
        boxed(
            Cause::None,
            [ConnectError::Timeout { phase: Phase::Handshake, addr: "host:80".into() }, ConnectError::TooManyRedirects],
        ),
        boxed(
            Cause::Some,
            [
                Outage::Connect(connect_error()),
                Outage::Closed(reason()),
                Outage::ClosedHere { sent: CloseCode::GOING_AWAY, reason: reason() },
            ],
        ),
        boxed(
            Cause::Some,
            [
                Ended::ByApplication(Some(reason())),
                Ended::Final(outage()),
                Ended::GaveUp { attempts: 3, last: outage() },
            ],
        ),
        boxed(Cause::None, [Ended::ByApplication(None), Ended::Panicked]),
        boxed(
            Cause::Some,
            [
                SocketError::Io(io_error()),
                SocketError::Protocol(ProtocolError::InvalidUtf8),
                SocketError::Url(UrlError::NoHost),
                SocketError::Header(HeaderError::Reserved("Host".into())),
                SocketError::Handshake(HandshakeError::AcceptMissing),
                SocketError::Invalid(ControlError::Disconnected),
            ],
        ),
        boxed(
            Cause::None,
            [
                SocketError::Timeout,
                SocketError::Queued,
                SocketError::Refused(Box::new(Response::new(403))),
                SocketError::Closed,
            ],
        ),
        boxed(Cause::Some, [AcceptError::Header(HeaderError::InvalidName("a b".into()))]),
        boxed(Cause::None, [AcceptError::NotAHandshake, AcceptError::SubprotocolNotOffered("chat".into())]),
        boxed(
            Cause::None,
            [
                HeaderError::InvalidName("a b".into()),
                HeaderError::InvalidValue("X".into()),
                HeaderError::Reserved("Host".into()),
                HeaderError::InvalidSubprotocol("a b".into()),
                HeaderError::DuplicateSubprotocol("chat".into()),
            ],
        ),
        boxed(Cause::Some, [HandshakeError::Response(ResponseError::Truncated { received: 1 })]),
        boxed(
            Cause::None,
            [
                HandshakeError::Redirect { status: 302, location: "/".into() },
                HandshakeError::Http10,
                HandshakeError::Upgrade(None),
                HandshakeError::Upgrade(Some("h2c".into())),
                HandshakeError::Connection(None),
                HandshakeError::Connection(Some("close".into())),
                HandshakeError::AcceptMissing,
                HandshakeError::Accept("x".into()),
                HandshakeError::Repeated("Upgrade"),
                HandshakeError::Subprotocol("chat".into()),
                HandshakeError::Extension("x".into()),
                HandshakeError::Compression("the list is malformed".into()),
                HandshakeError::MalformedExtensions(";".into()),
            ],
        ),
        boxed(Cause::Some, [RedirectError::Location(UrlError::NoHost)]),
        boxed(
            Cause::None,
            [RedirectError::Status(300), RedirectError::Downgrade(url()), RedirectError::Userinfo(url())],
        ),
        boxed(Cause::Some, [ProxyError::Response(ResponseError::Truncated { received: 0 })]),
        boxed(
            Cause::None,
            [
                ProxyError::Credentials,
                ProxyError::HostTooLong,
                ProxyError::NotSocks5(4),
                ProxyError::Method(255),
                ProxyError::Method(1),
                ProxyError::LoginRefused,
                ProxyError::Reply(5),
                ProxyError::AddressType(9),
            ],
        ),
        boxed(Cause::Some, [ResponseError::Head(HeadError::TooLarge)]),
        boxed(
            Cause::None,
            [
                ResponseError::NotHttp(b"SSH".to_vec()),
                ResponseError::Truncated { received: 0 },
                ResponseError::Truncated { received: 9 },
            ],
        ),
        boxed(
            Cause::None,
            [
                HeadError::TooLarge,
                HeadError::TooManyHeaders,
                HeadError::TargetTooLong,
                HeadError::BareCr,
                HeadError::BareLf,
                HeadError::ControlCharacter,
                HeadError::EmptyLines,
                HeadError::NotOneHead,
                HeadError::Malformed,
            ],
        ),
        boxed(
            Cause::None,
            [
                UrlError::NotAbsolute("host".into()),
                UrlError::Scheme("ftp".into()),
                UrlError::ProxyScheme("ftp".into()),
                UrlError::NoHost,
                UrlError::Host("a b".into()),
                UrlError::NonAsciiHost("é".into()),
                UrlError::Port("0".into()),
                UrlError::Userinfo,
                UrlError::Fragment("a".into()),
                UrlError::Character('\n'),
                UrlError::ProxyTarget("/a".into()),
            ],
        ),
        boxed(
            Cause::None,
            [
                ProtocolError::UnmaskedFrame,
                ProtocolError::MaskedFrame,
                ProtocolError::ReservedBits(4),
                ProtocolError::ReservedOpcode(3),
                ProtocolError::NonMinimalLength(5),
                ProtocolError::LengthOverflow(1 << 63),
                ProtocolError::UnexpectedContinuation,
                ProtocolError::UnfinishedMessage,
                ProtocolError::CloseWithoutCode,
                ProtocolError::InvalidCloseCode(CloseCode(1005)),
                ProtocolError::InvalidUtf8,
                ProtocolError::InvalidDeflate,
                ProtocolError::MessageTooBig { size: 2, limit: 1 },
                ProtocolError::CompressedMessageTooBig { size: 2, limit: 1 },
            ],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn display_has_one_level_and_source_has_the_next() {
    for (cause, error) in every_error() {
        let shown = error.to_string();
        assert!(!shown.is_empty() && !shown.ends_with('.'), "{error:?}: {shown:?}");
        assert_eq!(error.source().is_some(), cause == Cause::Some, "{error:?}");
        let mut source = error.source();
        while let Some(cause) = source {
            assert!(!shown.contains(&cause.to_string()), "{shown:?} repeats {:?}", cause.to_string());
            source = cause.source();
        }
        assert!(!format!("{error:?} {shown}").contains("secret"), "{shown}");
    }
}

/// An error and its causes.
fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        texts.push(error.to_string());
        source = error.source();
    }
    texts
}

#[test]
fn a_server_names_the_address_that_can_not_be_bound() {
    let first = Server::bind("127.0.0.1:0").expect("a server");
    // A listener that shares the port would be an error of the test, not of the text.
    let error = Server::bind(first.local_addr()).expect_err("the port is taken");
    let chain = chain(&error);
    let bound = format!("{} can not be bound; another program listens there: ", first.local_addr());
    assert!(chain[0].starts_with(&bound), "{chain:?}");
    assert_eq!(chain.len(), 2, "{chain:?}");
}

#[test]
fn a_client_names_the_server_that_it_does_not_reach_without_the_password() {
    let addr = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let connect = |url: &str| Client::builder().no_proxy().connect(url).expect_err("nobody listens");
    let error = connect(&format!("ws://anna:secret@{addr}/path"));
    let refused = chain(&error);
    assert_eq!(refused[0], format!("no connection to {addr}"));
    assert!(refused.len() == 2 && !format!("{error:?}").contains("secret"), "{error:?}");

    let reject = |_: &_| Err(Response::new(403).text("not you"));
    let server = Server::builder().workers(1).on_request(reject).bind("127.0.0.1:0").expect("a server");
    let error = connect(&format!("ws://anna:secret@{}/path", server.local_addr()));
    let refused = chain(&error);
    let url = format!("ws://{}/path", server.local_addr());
    assert_eq!(refused[0], format!("the opening handshake with {url} failed"));
    assert_eq!(refused[1..], ["the server answers 403 Forbidden: \"not you\""]);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");

    let wrong = chain(&connect("ws://anna:secret@host:0/"));
    assert_eq!(wrong, ["the URL is wrong", "the port \"0\" is no number from 1 to 65535"]);
}

#[test]
fn an_invalid_close_frame_has_a_chain() {
    let error = ControlError::InvalidClose(CloseFrame::new(CloseCode(1006), "").expect_err("may not be sent"));
    assert_eq!(chain(&error).len(), 2);
}

#[test]
fn a_timeout_names_the_phase_that_took_too_long() {
    for (phase, text) in [
        (Phase::Resolve, "the look-up of the host"),
        (Phase::Connect, "the attempt to connect"),
        (Phase::Proxy, "the tunnel through the proxy"),
        (Phase::Tls, "the handshake of TLS"),
        (Phase::Handshake, "the opening handshake"),
    ] {
        let error = ConnectError::Timeout { phase, addr: "host:80".into() };
        assert_eq!(error.to_string(), format!("{text} took too long (host:80)"));
    }
}
