use proptest::prelude::*;

use super::*;
use crate::protocol::handshake::server::Parsed;
use crate::protocol::handshake::{Accept, select_subprotocol, server};
use crate::protocol::http::{HeadError, HeadLimits, HeaderError, Request, ResponseError, ResponseReader};

/// The nonce of RFC 6455 1.3.
const NONCE: [u8; 16] = *b"the sample nonce";
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";

fn request(url: &str) -> ClientRequest {
    ClientRequest::new(Url::parse(url).unwrap())
}

/// Creates a request with two subprotocols and an extension.
fn offering() -> ClientRequest {
    let request = request("ws://h/").subprotocol("chat").subprotocol("superchat");
    request.extensions("permessage-deflate; client_max_window_bits, x-two")
}

fn parsed(head: &[u8]) -> Request {
    Request::of_client(head, ([127, 0, 0, 1], 9).into()).unwrap()
}

fn lines(request: &ClientRequest) -> Vec<(String, String)> {
    let head = parsed(&request.encode(NONCE).unwrap());
    let line = |(name, value): (&str, &[u8])| (name.to_owned(), String::from_utf8(value.to_vec()).unwrap());
    head.headers().map(line).collect()
}

fn check(request: &ClientRequest, head: &[u8]) -> Result<Agreed, HandshakeError> {
    let (response, _) = ResponseReader::new(HeadLimits::default()).read(head)?.expect("a whole head");
    verify(response, request, NONCE)
}

/// Checks a valid response with these additional lines.
fn check_with(request: &ClientRequest, lines: &str) -> Result<Agreed, HandshakeError> {
    check(request, format!("{SWITCH}{ACCEPT}{lines}\r\n").as_bytes())
}

fn check_changed(from: &str, to: &str) -> Result<Agreed, HandshakeError> {
    let head = format!("{SWITCH}{ACCEPT}\r\n");
    assert!(head.contains(from));
    check(&request("ws://h/"), head.replacen(from, to, 1).as_bytes())
}

#[test]
fn the_request_of_the_rfc_is_encoded() {
    let request = request("ws://server.example.com/chat").origin("http://example.com");
    let request = request.subprotocol("chat").subprotocol("superchat");
    assert_eq!(
        String::from_utf8(request.encode(NONCE).unwrap()).unwrap(),
        "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         User-Agent: test\r\nSec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://example.com\r\n\r\n"
            .replacen("User-Agent: test", &format!("User-Agent: threadbare/{}", env!("CARGO_PKG_VERSION")), 1)
    );
}

#[test]
fn the_user_agent_is_the_librarys_or_the_applications() {
    let sent = |request: &ClientRequest| {
        let head = parsed(&request.encode(NONCE).unwrap());
        head.header_values("User-Agent").map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sent(&request("ws://h")), [format!("threadbare/{}", env!("CARGO_PKG_VERSION"))]);
    assert_eq!(sent(&request("ws://h").header("user-agent", "probe/1.0 (x)")), ["probe/1.0 (x)"]);
}

#[test]
fn host_has_a_port_only_if_it_is_not_the_default() {
    for (url, host) in [
        ("ws://h", "h"),
        ("ws://h:80", "h"),
        ("ws://h:443", "h:443"),
        ("wss://h:443", "h"),
        ("wss://h:80", "h:80"),
        ("wss://[::1]", "[::1]"),
        ("ws://[::1]:9", "[::1]:9"),
        ("ws://u:p@H:9", "h:9"),
    ] {
        assert_eq!(parsed(&request(url).encode(NONCE).unwrap()).host(), Some(host), "{url}");
    }
}

#[test]
fn user_and_password_become_authorization() {
    let authorization = |request: &ClientRequest| {
        let head = parsed(&request.encode(NONCE).unwrap());
        assert_eq!(head.target(), "/p");
        head.header_values("Authorization").map(str::to_owned).collect::<Vec<_>>()
    };
    let url = "ws://Aladdin:open%20sesame@h/p";
    assert_eq!(authorization(&request(url)), ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]); // RFC 7617 2
    assert_eq!(authorization(&request(url).header("authorization", "Bearer x")), ["Bearer x"]);
    assert!(authorization(&request("ws://h/p")).is_empty());
}

#[test]
fn h_03_a_28_header_injection_is_refused() {
    let new = || request("ws://h/");
    for value in ["a\r\nX: y", "a\nb", "a\r", "\0", "\x7f", " a", "a\t"] {
        assert_eq!(new().header("X", value).check().unwrap_err(), HeaderError::InvalidValue("X".into()), "{value:?}");
        assert_eq!(new().origin(value).check().unwrap_err(), HeaderError::InvalidValue("Origin".into()), "{value:?}");
        assert_eq!(new().header("Origin", value).check().unwrap_err(), HeaderError::InvalidValue("Origin".into()));
    }
    for name in ["", "a b", "a:", "a\r\nb", "caf\u{e9}", "a\0"] {
        assert_eq!(new().header(name, "v").check().unwrap_err(), HeaderError::InvalidName(name.into()), "{name:?}");
    }
    for name in ["", "a\r\nX: y", "a b", "a,b", "caf\u{e9}", "\"a\"", "a;b"] {
        assert_eq!(
            new().subprotocol(name).check().unwrap_err(),
            HeaderError::InvalidSubprotocol(name.into()),
            "{name:?}"
        );
    }
    for offers in ["", ",", "a\r\nX: y", "a b", "a;", "caf\u{e9}", "a;b=\"c d\"", "a\0"] {
        let error = HeaderError::InvalidValue("Sec-WebSocket-Extensions".into());
        assert_eq!(new().extensions(offers).check().unwrap_err(), error, "{offers:?}");
    }
    for host in ["", "a b", "a\r\nX: y", "user@h", "caf\u{e9}", "h:x", "http://h"] {
        let error = HeaderError::InvalidValue("host".into());
        assert_eq!(new().header("host", host).check().unwrap_err(), error, "{host:?}");
    }
    let reserved = [
        "UPGRADE",
        "Connection",
        "content-length",
        "Transfer-Encoding",
        "sec-websocket-key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-X",
    ];
    for name in reserved {
        assert_eq!(new().header(name, "v").check().unwrap_err(), HeaderError::Reserved(name.into()), "{name:?}");
    }
}

#[test]
fn a_host_of_ones_own_is_sent_once_and_not_to_another_origin() {
    let first = request("ws://a:8080/x").header("Host", "old.example").header("host", "api.example.com:1");
    let hosts = |request: &ClientRequest| {
        parsed(&request.encode(NONCE).unwrap()).header_values("Host").map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((hosts(&first), first.url().authority()), (vec!["api.example.com:1".to_owned()], "a:8080".to_owned()));
    for (location, host) in [("/y", "api.example.com:1"), ("ws://a/y", "a"), ("//b/y", "b")] {
        let next = first.redirected(redirect(first.url(), 302, location).unwrap());
        assert_eq!(hosts(&next), [host], "{location}");
    }
}

#[test]
fn a_subprotocol_is_offered_once() {
    let error = request("ws://h/").subprotocol("a").subprotocol("a").check().unwrap_err();
    assert_eq!(error, HeaderError::DuplicateSubprotocol("a".into()));
    assert!(request("ws://h/").subprotocol("a").subprotocol("A").check().is_ok());
}

#[test]
fn debug_omits_secrets() {
    let request = request("ws://user:hidden@h/p").header("COOKIE", "hidden");
    let request = request.header("Authorization", "hidden").header("X-Shown", "shown");
    let text = format!("{request:?}");
    assert!(text.contains("shown") && text.contains("ws://h/p") && !text.contains("hidden"), "{text}");
}

#[test]
fn h_05_credentials_do_not_follow_to_another_origin() {
    let first = request("ws://u:p@a/x").header("Cookie", "c=1").header("X-Kept", "k");
    let first = first.header("authorization", "Bearer x").header("Proxy-Authorization", "y");
    let first = first.subprotocol("chat");
    for (location, kept) in [("/y", true), ("http://a/y", true), ("//b/y", false), ("https://a/y", false)] {
        let next = first.redirected(redirect(first.url(), 302, location).unwrap());
        let head = parsed(&next.encode(NONCE).unwrap());
        assert_eq!((head.target(), head.header("X-Kept")), ("/y", Some("k")));
        assert_eq!(head.host(), Some(next.url().host()));
        assert_eq!(head.subprotocols().collect::<Vec<_>>(), ["chat"]);
        for name in ["Authorization", "Cookie", "Proxy-Authorization"] {
            assert_eq!(head.header(name).is_some(), kept, "{name} to {location}");
        }
    }
    let from_url = request("ws://u:p@a/x");
    for (location, kept) in [("/y", true), ("ws://a/y", true), ("ws://a:81/y", false), ("//b", false)] {
        let next = from_url.redirected(redirect(from_url.url(), 302, location).unwrap());
        assert_eq!(parsed(&next.encode(NONCE).unwrap()).header("Authorization").is_some(), kept, "{location}");
    }
}

#[test]
fn a_valid_response_is_accepted() {
    let agreed = check_with(&request("ws://h/"), "Set-Cookie: a=b\r\nServer: s\r\n").unwrap();
    assert_eq!((agreed.subprotocol(), agreed.extensions()), (None, None));
    assert_eq!(agreed.response().header("set-cookie"), Some("a=b"));

    // Used in many examples.
    let nonce = [0xc7, 0x72, 0x49, 0x1c, 0xc6, 0xc3, 0x2f, 0x51, 0x33, 0x2e, 0x48, 0x7d, 0x18, 0x18, 0x57, 0x0f];
    let sent = request("ws://h/").encode(nonce).unwrap();
    assert_eq!(parsed(&sent).header("Sec-WebSocket-Key"), Some("x3JJHMbDL1EzLkh9GBhXDw=="));
    let head = format!("{SWITCH}Sec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n\r\n");
    assert!(verify(ResponseHead::parse(head.as_bytes()).unwrap(), &request("ws://h/"), nonce).is_ok());
    assert!(verify(ResponseHead::parse(head.as_bytes()).unwrap(), &request("ws://h/"), NONCE).is_err());
}

#[test]
fn responses_that_the_rfc_allows_are_accepted() {
    for (from, to) in [
        ("Upgrade: websocket", "uPGRADE: WebSocket"),
        ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        ("Connection: Upgrade", "Connection: close\r\nconnection: UPGRADE"),
        ("Sec-WebSocket-Accept: s", "sec-websocket-accept: \t s"),
        ("xOo=", "xOo=  "),
        ("Switching Protocols", ""),
        (" Switching Protocols", ""),
        ("HTTP/1.1 101", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 101"),
        ("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"),
    ] {
        assert!(check_changed(from, to).is_ok(), "{to:?}");
    }
}

#[test]
fn h_05_an_upgrade_to_another_protocol_fails() {
    for to in
        ["X: y", "Upgrade: h2c", "Upgrade: websocket, h2c", "Upgrade: websocket/13", "Upgrade:", "Upgrade: caf\u{e9}"]
    {
        assert!(matches!(check_changed("Upgrade: websocket", to), Err(HandshakeError::Upgrade(_))), "{to:?}");
    }
    let twice = check_with(&request("ws://h/"), "Upgrade: websocket\r\n");
    assert!(matches!(twice, Err(HandshakeError::Upgrade(Some(value))) if value == "websocket, websocket"));
    for to in ["X: y", "Connection: keep-alive", "Connection:", "Connection: upgrades", "Connection: Upgrade/1"] {
        assert!(matches!(check_changed("Connection: Upgrade", to), Err(HandshakeError::Connection(_))), "{to:?}");
    }
    assert!(matches!(check_changed("HTTP/1.1", "HTTP/1.0"), Err(HandshakeError::Http10)));
}

#[test]
fn a_13_h_05_a_wrong_accept_fails() {
    for wrong in [
        "",
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=",
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo",
        "S3PPLMBITXAQ9KYGZZHZRBK+XOO=",
        "dGhlIHNhbXBsZSBub25jZQ==",     // the key itself
        "HSmrc0sMlYUkAGmm5OPpG2HaGWk=", // the value for another key
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=, s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "\"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\"",
        "caf\u{e9}",
    ] {
        let error = check_changed("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", wrong).unwrap_err();
        assert!(matches!(&error, HandshakeError::Accept(value) if value == wrong), "{wrong:?}: {error}");
    }
}

#[test]
fn a_13_h_05_a_missing_or_repeated_accept_fails() {
    assert!(matches!(check_changed(ACCEPT, ""), Err(HandshakeError::AcceptMissing)));
    for again in [ACCEPT, "sec-websocket-accept: wrong\r\n"] {
        let repeated = check_with(&request("ws://h/"), again);
        assert!(matches!(repeated, Err(HandshakeError::Repeated("Sec-WebSocket-Accept"))));
    }
}

#[test]
fn h_05_a_14_a_subprotocol_that_was_not_offered_fails() {
    let chosen = |lines: &str| check_with(&offering(), lines).map(|agreed| agreed.subprotocol().map(str::to_owned));
    assert_eq!(chosen("").unwrap(), None);
    assert_eq!(chosen("Sec-WebSocket-Protocol: chat\r\n").unwrap().as_deref(), Some("chat"));
    assert_eq!(chosen("sec-websocket-protocol: superchat \r\n").unwrap().as_deref(), Some("superchat"));
    for wrong in ["chit", "Chat", "", "chat, superchat", "chat,", "cha", "caf\u{e9}"] {
        let error = chosen(&format!("Sec-WebSocket-Protocol: {wrong}\r\n")).unwrap_err();
        assert!(matches!(&error, HandshakeError::Subprotocol(value) if value == wrong), "{wrong:?}: {error}");
    }
    let twice = chosen("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n");
    assert!(matches!(twice, Err(HandshakeError::Repeated("Sec-WebSocket-Protocol"))));
    let unasked = check_with(&request("ws://h/"), "Sec-WebSocket-Protocol: chat\r\n");
    assert!(matches!(unasked, Err(HandshakeError::Subprotocol(_))));
    let head = [SWITCH.as_bytes(), ACCEPT.as_bytes(), b"Sec-WebSocket-Protocol: caf\xe9\r\n\r\n"].concat();
    assert!(matches!(check(&offering(), &head), Err(HandshakeError::Subprotocol(_))));
}

#[test]
fn h_05_an_extension_that_was_not_offered_fails() {
    let line = |value: &str| format!("Sec-WebSocket-Extensions: {value}\r\n");
    for good in [
        "permessage-deflate",
        "permessage-deflate; server_max_window_bits=7",
        "x-two, permessage-deflate",
        "Permessage-Deflate, X-TWO",
    ] {
        assert_eq!(check_with(&offering(), &line(good)).unwrap().extensions(), Some(good));
    }
    for (wrong, name) in [("x-three", "x-three"), ("x-two, client_max_window_bits", "client_max_window_bits")] {
        let error = check_with(&offering(), &line(wrong)).unwrap_err();
        assert!(matches!(&error, HandshakeError::Extension(value) if value == name), "{error}");
    }
    for malformed in ["", ",", "permessage-deflate;", "permessage-deflate; a=\"b c\"", "x-two caf\u{e9}"] {
        let error = check_with(&offering(), &line(malformed)).unwrap_err();
        assert!(matches!(error, HandshakeError::MalformedExtensions(_)), "{malformed:?}: {error}");
    }
    let unasked = check_with(&request("ws://h/"), &line("permessage-deflate"));
    assert!(matches!(unasked, Err(HandshakeError::Extension(_))));
    let twice = check_with(&offering(), &line("x-two").repeat(2));
    assert!(matches!(twice, Err(HandshakeError::Repeated("Sec-WebSocket-Extensions"))));
}

#[test]
fn h_05_a_101_ends_at_the_empty_line_whatever_its_headers_say() {
    // RFC 9112 6.3, item 1.
    for lines in [
        "Content-Length: 1\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: x\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 7\r\n",
    ] {
        let agreed = check_with(&request("ws://h/"), lines);
        assert!(agreed.is_ok(), "{lines:?}: {agreed:?}");
    }
}

#[test]
fn h_05_a_status_other_than_101_fails() {
    let status_of = |status: u16, lines: &str| {
        let head = format!("HTTP/1.1 {status} Why\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{ACCEPT}{lines}\r\n");
        check(&request("ws://h/"), head.as_bytes()).unwrap_err()
    };
    for status in [0, 99, 200, 201, 204, 300, 304, 305, 400, 401, 403, 404, 426, 500, 503, 999] {
        let head = format!("HTTP/1.1 {status:03} Why\r\nLocation: /x\r\n{ACCEPT}\r\n");
        match check(&request("ws://h/"), head.as_bytes()).unwrap_err() {
            HandshakeError::Refused(refusal) => {
                assert_eq!((refusal.status(), refusal.head().reason()), (status, "Why"))
            }
            other => panic!("{status}: {other}"),
        }
    }
    for status in [301, 302, 303, 307, 308] {
        match status_of(status, "Location: /x\r\n") {
            HandshakeError::Redirect { status: known, location } => {
                assert_eq!((known, location.as_str()), (status, "/x"))
            }
            other => panic!("{status}: {other}"),
        }
        for lines in ["", "Location: /x\r\nLocation: /y\r\n"] {
            assert!(matches!(status_of(status, lines), HandshakeError::Refused(_)), "{status} {lines:?}");
        }
    }
}

#[test]
fn a_refusal_has_the_status_and_body_of_the_response() {
    let refused = check(&request("ws://h/"), b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n").unwrap_err();
    assert_eq!(refused.to_string(), "the server answers 403 Forbidden");
    let said = refused.clone().with_body(b"not for you\x1b[0m\n");
    assert_eq!(said.to_string(), "the server answers 403 Forbidden: \"not for you\\u{1b}[0m\"");
    let long = refused.with_body(&[b'x'; 5000]);
    assert_eq!(long.to_string().len(), "the server answers 403 Forbidden: \"...\"".len() + 200);
    let HandshakeError::Refused(refusal) = long else { panic!("still a refusal") };
    assert_eq!(refusal.body().len(), REFUSAL_BODY);
    assert_eq!(refusal.head().header("x"), Some("y"));
}

#[test]
fn only_a_refusal_awaits_the_rest_of_its_body() {
    let refused = check(&request("ws://h/"), b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\n").unwrap_err();
    assert!(refused.awaits_body(b"nop") && !refused.awaits_body(b"nope"));
    assert!(!HandshakeError::Http10.awaits_body(b""));
}

#[test]
fn errors_are_small_and_their_messages_name_the_cause() {
    assert!(size_of::<HandshakeError>() <= 32, "{}", size_of::<HandshakeError>());
    for (error, shown) in [
        (HandshakeError::AcceptMissing, "the server's 101 has no Sec-WebSocket-Accept header"),
        (HandshakeError::Upgrade(Some("h2c".into())), "the server upgrades to \"h2c\", not to websocket"),
        (ResponseError::Head(HeadError::TooLarge).into(), "the server does not answer as it should"),
    ] {
        assert_eq!(error.to_string(), shown);
    }
}

#[test]
fn the_client_accepts_the_101_of_this_librarys_server() {
    let request = offering().origin("http://h");
    let Ok(Parsed::Upgrade(seen)) =
        server::parse(&request.encode(NONCE).unwrap(), ([127, 0, 0, 1], 9).into(), &HeadLimits::default())
    else {
        panic!("the server takes it for an opening handshake");
    };
    let chosen = select_subprotocol(&seen, &["superchat"]).unwrap();
    let answer = server::respond(&seen, &Accept::new().subprotocol(chosen)).unwrap();
    let agreed = check(&request, &answer).unwrap();
    assert_eq!(agreed.subprotocol(), Some("superchat"));
    assert!(check(&request, &server::upgrade_required().encode_head()).is_err());
}

#[test]
fn h_01_h_05_the_result_is_the_same_at_every_split_and_frames_are_kept() {
    let frames = b"\x81\x02hi\x88\x00\r\n\r\n";
    let outcome = |stream: &[u8], ends: &mut dyn Iterator<Item = usize>| {
        let mut reader = ResponseReader::new(HeadLimits::default());
        for end in ends {
            match reader.read(&stream[..end]) {
                Ok(None) => {}
                Ok(Some((head, size))) => {
                    let agreed = verify(head, &offering(), NONCE);
                    let agreed = agreed.map(|agreed| agreed.subprotocol().map(str::to_owned));
                    return (agreed.map_err(|error| error.to_string()), stream[size..].to_vec());
                }
                Err(error) => return (Err(error.to_string()), Vec::new()),
            }
        }
        (Err("incomplete".into()), Vec::new())
    };
    for head in [
        format!("HTTP/1.1 100 C\r\n\r\n{SWITCH}{ACCEPT}Sec-WebSocket-Protocol: chat\r\n\r\n"),
        format!("{SWITCH}\r\n"),
        format!("{SWITCH}{ACCEPT}\n"),
        "HTTP/1.1 403 Forbidden\r\n\r\n".into(),
        "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n".into(),
    ] {
        let stream = [head.as_bytes(), frames].concat();
        let whole = outcome(&stream, &mut [stream.len()].into_iter());
        assert!(whole.1.is_empty() || whole.1 == frames, "{head:?}");
        for split in 0..=stream.len() {
            assert_eq!(outcome(&stream, &mut [split, stream.len()].into_iter()), whole, "{head:?} split at {split}");
        }
        assert_eq!(outcome(&stream, &mut (0..=stream.len())), whole, "{head:?}");
    }
}

proptest! {
    #[test]
    fn a_28_the_emitted_head_holds_exactly_the_given_headers(
        given in proptest::collection::vec(
            ("[!-~]{1,8}|X-[a-z]{1,5}|Host|Cookie", "\\PC{0,20}|[ -~\r\n\t\0]{0,9}"),
            0..6,
        ),
        subprotocols in proptest::collection::vec("[a-c.!]{1,2}|[ -~\r\n]{0,5}", 0..4),
        offers in "[a-z]{1,4}(; ?[a-z]{1,3}(=[0-9]{1,2})?){0,2}|[ -~\r\n]{0,9}",
        origin in "https?://[a-z]{1,5}|[ -~\r\n]{0,9}",
        path in "[!-~]{0,12}",
    ) {
        let Ok(url) = Url::parse(&format!("wss://h:9/{path}")) else { return Ok(()) };
        let mut request = ClientRequest::new(url);
        let mut expected: Vec<(String, String)> = [
            ("Host", "h:9"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13"),
            ("User-Agent", concat!("threadbare/", env!("CARGO_PKG_VERSION"))),
        ].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut offered = Vec::new();
        for name in subprotocols {
            let with = request.clone().subprotocol(&name);
        if with.check().is_ok() {
                request = with;
                offered.push(name);
            }
        }
        if !offered.is_empty() {
            expected.push(("Sec-WebSocket-Protocol".into(), offered.join(", ")));
        }
        let with = request.clone().extensions(&offers);
        if with.check().is_ok() {
            request = with;
            expected.push(("Sec-WebSocket-Extensions".into(), offers.trim_ascii().to_owned()));
        }
        let with = request.clone().origin(&origin);
        if with.check().is_ok() {
            request = with;
            expected.push(("Origin".into(), origin));
        }
        for (name, value) in given {
            let with = request.clone().header(&name, &value);
            if with.check().is_ok() {
                request = with;
                match name.eq_ignore_ascii_case("Host") {
                    true => expected[0].1 = value,
                    false => expected.push((name, value)),
                }
            }
        }
        let head = parsed(&request.encode(NONCE).unwrap());
        prop_assert_eq!(head.target(), request.url().target());
        prop_assert_eq!(lines(&request), expected);
    }

    #[test]
    fn no_response_panics(
        lines in proptest::collection::vec(prop::sample::select(vec![
            "Upgrade: websocket", "Connection: upgrade", ACCEPT.trim_ascii(), "Content-Length: 0", "Location: /x",
            "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: x-two", "Sec-WebSocket-Extensions: \u{e9}",
        ]), 0..9),
        status in prop_oneof![Just(101_u16), 100_u16..=999],
    ) {
        let head = format!("HTTP/1.1 {status} X\r\n{}\r\n\r\n", lines.join("\r\n"));
        if let Ok(Some((head, _))) = ResponseReader::new(HeadLimits::default()).read(head.as_bytes()) {
            let once = |name: &str| lines.iter().filter(|line| line.starts_with(name)).count() == 1;
            let agreed = verify(head, &offering(), NONCE);
            prop_assert!(agreed.is_err() || status == 101 && once("Upgrade") && once("Sec-WebSocket-Accept"));
        }
    }
}
