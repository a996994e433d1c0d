use proptest::prelude::*;

use super::*;
use crate::protocol::http::{HeadScanner, HeaderError};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const REST: &str =
    "Host: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";

fn parse_head(head: &[u8]) -> Result<Parsed, Box<Response>> {
    parse(head, ([127, 0, 0, 1], 9).into(), &HeadLimits::default())
}

/// Returns the request of RFC 6455 1.2 with these additional lines.
fn handshake(lines: &str) -> Vec<u8> {
    format!("GET /chat HTTP/1.1\r\n{REST}{KEY}{lines}\r\n").into_bytes()
}

fn upgrade(head: &[u8]) -> Request {
    match parse_head(head) {
        Ok(Parsed::Upgrade(request)) => request,
        other => panic!("{}: {other:?}", head.escape_ascii()),
    }
}

/// Returns the result of a head: `upgrade`, `plain` or a status code.
fn outcome(head: &[u8]) -> String {
    match parse_head(head) {
        Ok(Parsed::Upgrade(_)) => "upgrade".into(),
        Ok(Parsed::Plain(_)) => "plain".into(),
        Err(refusal) => refusal.status().to_string(),
    }
}

fn outcome_with(lines: &str) -> String {
    outcome(&handshake(lines))
}

/// Returns the result of the handshake with one part replaced.
fn outcome_changed(from: &str, to: &str) -> String {
    let head = String::from_utf8(handshake("")).unwrap();
    assert!(head.contains(from));
    outcome(head.replacen(from, to, 1).as_bytes())
}

#[test]
fn the_handshake_of_the_rfc_is_answered() {
    let request = upgrade(&handshake("Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n"));
    let chosen = select_subprotocol(&request, &["superchat", "chat"]).unwrap();
    assert_eq!(chosen, "chat"); // the first offer of the client
    assert_eq!(
        respond(&request, &Accept::new().subprotocol(chosen)).unwrap(),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
}

#[test]
fn requests_that_the_rfc_allows_are_accepted() {
    for lines in [
        "",
        "Content-Length: 0\r\n",
        "Content-Length: 0, 00\r\nContent-Length: 0\r\n",
        "Connection: keep-alive\r\n",
        "Upgrade: h2c\r\n",
        "Sec-WebSocket-Protocol: a,,b ,\r\nSec-WebSocket-Protocol: c\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        "Sec-WebSocket-Extensions: constructor, __proto__; a=\"b\"\r\n",
        "Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions: x\r\n",
        "Authorization: caf\u{e9}\r\n",
    ] {
        assert_eq!(outcome_with(lines), "upgrade", "{lines:?}");
    }
    assert_eq!(
        outcome_changed("Connection: Upgrade", "connection: keep-alive\r\nCONNECTION: foo,\tuPGRADE"),
        "upgrade"
    );
    assert_eq!(outcome_changed("Upgrade: websocket", "upgrade: foo/1, WebSocket"), "upgrade");
    assert_eq!(outcome_changed("GET", "\r\nGET"), "upgrade");
}

#[test]
fn a_request_without_upgrade_is_plain() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", // RFC 9110 7.8: it is ignored
        "HEAD / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        "GET http://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(outcome(head.as_bytes()), "plain", "{head:?}");
    }
}

#[test]
fn an_invalid_request_line_is_refused() {
    for (expected, line) in [
        ("405", "POST /chat HTTP/1.1"),
        ("405", "HEAD /chat HTTP/1.1"),
        ("501", "get /chat HTTP/1.1"),
        ("501", "BREW /chat HTTP/1.1"),
        ("405", "OPTIONS * HTTP/1.1"),
        ("405", "CONNECT server.example.com:80 HTTP/1.1"),
        ("505", "GET /chat HTTP/1.0"),
        ("505", "GET /chat HTTP/2.0"),
        ("upgrade", "GET /chat HTTP/1.2"), // RFC 9110 2.5
        ("400", "GET /chat"),
        ("400", "GET /chat HTTP/1"),
        ("400", "GET * HTTP/1.1"),
        ("400", "GET server.example.com:80 HTTP/1.1"),
        ("400", "GET ws://server.example.com/chat HTTP/1.1"),
        ("400", "GET http://user@server.example.com/chat HTTP/1.1"),
        ("400", "GET http:///chat HTTP/1.1"),
        ("upgrade", "GET http://server.example.com/chat HTTP/1.1"),
        ("upgrade", "GET HTTPS://SERVER.example.com:443?x=http://a HTTP/1.1"),
        ("upgrade", "GET http://other.example.com/chat HTTP/1.1"), // RFC 9112 3.2.2: it decides over Host
        ("upgrade", "GET //a/b HTTP/1.1"),
        ("upgrade", "GET /a://b HTTP/1.1"),
    ] {
        assert_eq!(outcome_changed("GET /chat HTTP/1.1", line), expected, "{line}");
    }
}

#[test]
fn a_missing_or_invalid_host_is_refused() {
    assert_eq!(outcome_changed("Host: server.example.com\r\n", ""), "400");
    assert_eq!(outcome_with("Host: server.example.com\r\n"), "400");
    for host in ["", "a b", "a/b", "a@b", "a:b", "a, b", "[::1", "a:99999", "caf\u{e9}"] {
        assert_eq!(outcome_changed("server.example.com", host), "400", "{host}");
    }
}

#[test]
fn an_incomplete_upgrade_is_refused() {
    assert_eq!(outcome_changed("Upgrade: websocket\r\n", ""), "426");
    assert_eq!(outcome_changed("Upgrade: websocket", "Upgrade: h2c"), "426");
    assert_eq!(outcome_changed("Upgrade: websocket", "Upgrade: websockets"), "426");
    assert_eq!(outcome_changed("Connection: Upgrade\r\n", ""), "426");
    assert_eq!(outcome_changed("Connection: Upgrade", "Connection: keep-alive"), "426");
}

#[test]
fn other_websocket_versions_are_refused() {
    for version in ["12", "8", "0", "013", "13, 8", "", "x", "255"] {
        let head = String::from_utf8(handshake("")).unwrap().replace("Version: 13", &format!("Version: {version}"));
        let refusal = parse_head(head.as_bytes()).unwrap_err();
        assert_eq!(refusal.status(), 426, "{version}");
        assert!(String::from_utf8(refusal.encode()).unwrap().contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }
    assert_eq!(outcome_changed("Sec-WebSocket-Version: 13\r\n", ""), "426");
    assert_eq!(outcome_with("Sec-WebSocket-Version: 13\r\n"), "400");
}

#[test]
fn an_invalid_key_is_refused() {
    for key in [
        "",
        "dGhlIHNhbXBsZSBub25jZQ", // no padding
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZSE=", // 17 bytes
        "dGhlIHNhbXBsZSBub25j",     // 15 bytes
        "dGhlIHNhbXBsZSBub25jZSEh", // 18 bytes in 24 characters
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhlIHNhbXBsZS*ub25jZQ==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "caf\u{e9}",
    ] {
        assert_eq!(outcome_changed("dGhlIHNhbXBsZSBub25jZQ==", key), "400", "{key}");
    }
    assert_eq!(outcome_changed(KEY, ""), "400");
    assert_eq!(outcome_with(KEY), "400");
    assert_eq!(outcome_changed("ZQ==", "ZR=="), "upgrade"); // the four unused bits are not zero
}

#[test]
fn a_03_a_14_malformed_lists_are_refused() {
    for lines in [
        "Sec-WebSocket-Extensions: ,;constructor\r\n",
        "Sec-WebSocket-Extensions:\r\n",
        "Sec-WebSocket-Extensions: ,\r\n",
        "Sec-WebSocket-Extensions: a; b=\"c d\"\r\n",
        "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b;\r\n",
        "Sec-WebSocket-Protocol:\r\n",
        "Sec-WebSocket-Protocol: , ,\r\n",
        "Sec-WebSocket-Protocol: a b\r\n",
        "Sec-WebSocket-Protocol: a/b\r\n",
        "Sec-WebSocket-Protocol: \"a\"\r\n",
        "Sec-WebSocket-Protocol: chat, chat\r\n",
        "Sec-WebSocket-Protocol: a, chat\r\nSec-WebSocket-Protocol: chat\r\n",
    ] {
        assert_eq!(outcome_with(lines), "400", "{lines:?}");
    }
    let head = [&handshake("")[..handshake("").len() - 2], b"Sec-WebSocket-Protocol: caf\xe9\r\n\r\n"].concat();
    assert_eq!(outcome(&head), "400");
    assert_eq!(outcome_with("Sec-WebSocket-Protocol: chat, Chat\r\n"), "upgrade"); // names are case-sensitive
}

#[test]
fn h_02_a_request_with_content_is_refused() {
    for lines in [
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 0, 5\r\n",
        "Content-Length: 0,\r\n",
        "Content-Length: 0 0\r\n",
        "Content-Length: +0\r\n",
        "Content-Length:\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip;q, chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(outcome_with(lines), "400", "{lines:?}");
        assert_eq!(outcome(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes()), "400", "{lines:?}");
    }
}

#[test]
fn an_unknown_transfer_coding_is_answered_501() {
    for lines in ["Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: gzip\r\nTransfer-Encoding: Chunked\r\n"] {
        assert_eq!(outcome_with(lines), "501", "{lines:?}");
        assert_eq!(outcome(format!("GET / HTTP/1.0\r\n{lines}\r\n").as_bytes()), "400", "{lines:?}");
    }
}

#[test]
fn h_02_ambiguous_heads_are_refused() {
    for lines in [
        "X: a\n",
        "X: a\nY: b\r\n",
        "X: a\rY: b\r\n",
        "X: \0\r\n",
        "X: a\r\n folded\r\n",
        "X: a\r\n\tfolded\r\n",
        "X : a\r\n",
        "X\t: a\r\n",
        "no colon\r\n",
        ": no name\r\n",
    ] {
        assert_eq!(outcome_with(lines), "400", "{lines:?}");
    }
    let two = [handshake(""), handshake("")].concat();
    assert_eq!(outcome(&two), "400");
    assert_eq!(HeadScanner::new(HeadLimits::default()).scan(&two).unwrap(), Some(handshake("").len()));
}

#[test]
fn a_05_t_11_large_heads_are_refused() {
    let spam = "a: b\r\n".repeat(2_000);
    assert_eq!(outcome(format!("GET / HTTP/1.1\r\n{spam}{REST}{KEY}\r\n").as_bytes()), "431");
    assert_eq!(outcome_with(&"a: b\r\n".repeat(200)), "431");
    assert_eq!(outcome_with(&"a: b\r\n".repeat(128 - 5)), "upgrade");
    assert_eq!(outcome_with(&"a: b\r\n".repeat(129 - 5)), "431");
    assert_eq!(outcome_with(&format!("a: {}\r\n", "b".repeat(20_000))), "431");
    assert_eq!(outcome_changed("/chat", &format!("/{}", "a".repeat(8 * 1024))), "414");
}

#[test]
fn refusals_are_complete_responses() {
    let heads = [
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
    ];
    for (head, expected) in heads.into_iter().zip(["405", "400", "505", "426"]) {
        let text = String::from_utf8(parse_head(head.as_bytes()).unwrap_err().encode()).unwrap();
        let (answer, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")));
        let connection = if expected == "426" { "close, Upgrade" } else { "close" };
        assert!(answer.contains(&format!("\r\nConnection: {connection}\r\n")));
        assert!(answer.contains(&format!("\r\nContent-Length: {}\r\n", body.len())) && !body.is_empty());
        assert_eq!(answer.contains("\r\nAllow: GET, HEAD"), expected == "405");
        assert_eq!(answer.contains("\r\nUpgrade: websocket\r\n"), expected == "426");
    }
    assert_eq!(upgrade_required().status(), 426);
}

#[test]
fn h_03_a_subprotocol_that_was_not_offered_is_an_error() {
    let request = upgrade(&handshake("Sec-WebSocket-Protocol: chat\r\n"));
    for name in ["superchat", "CHAT", "", "chat\r\nX: y", "chat, superchat"] {
        let error = respond(&request, &Accept::new().subprotocol(name)).unwrap_err();
        assert_eq!(error, AcceptError::SubprotocolNotOffered(name.into()));
        assert!(!error.to_string().contains('\r'));
    }
    assert_eq!(select_subprotocol(&request, &["other"]), None);
    assert_eq!(select_subprotocol(&request, &[] as &[String]), None);
}

#[test]
fn h_03_header_injection_is_refused() {
    assert_eq!(Accept::new().header("X", "a\r\nY: b").check(), Err(HeaderError::InvalidValue("X".into())));
    assert_eq!(Accept::new().header("X\r\nY", "b").check(), Err(HeaderError::InvalidName("X\r\nY".into())));
    assert_eq!(
        Accept::new().header("sec-websocket-extensions", "b").check(),
        Err(HeaderError::Reserved("sec-websocket-extensions".into()))
    );
}

#[test]
fn an_invalid_header_is_an_error_when_the_handshake_is_answered() {
    let accept = Accept::new().header("X", "a\r\nY: b").header("Z", "z");
    let invalid = AcceptError::Header(HeaderError::InvalidValue("X".into()));
    assert_eq!(respond(&upgrade(&handshake("")), &accept), Err(invalid));
}

#[test]
fn a_request_without_a_key_cannot_be_accepted() {
    let request = Request::parse(b"GET / HTTP/1.1\r\n\r\n", ([127, 0, 0, 1], 9).into()).unwrap();
    assert_eq!(respond(&request, &Accept::new()), Err(AcceptError::NotAHandshake));
}

/// Scans the stream in two pieces, then parses the head.
fn outcome_in_two(stream: &[u8], split: usize) -> (String, Vec<u8>) {
    let mut scanner = HeadScanner::new(HeadLimits::default());
    for received in [&stream[..split], stream] {
        match scanner.scan(received) {
            Ok(None) => {}
            Ok(Some(length)) => return (outcome(&stream[..length]), stream[length..].to_vec()),
            Err(error) => return (Box::<Response>::from(error).status().to_string(), Vec::new()),
        }
    }
    ("incomplete".into(), Vec::new())
}

#[test]
fn h_01_the_result_is_the_same_at_every_split_and_the_rest_is_kept() {
    let refused = handshake("X: a\nY: b\r\n");
    for (head, expected) in [
        (handshake("Sec-WebSocket-Protocol: a\r\n"), "upgrade"),
        (refused, "400"),
        (handshake("Host: twice\r\n"), "400"),
    ] {
        let stream = [head.as_slice(), b"\x81\x80abcd\r\n\r\n"].concat();
        let whole = outcome_in_two(&stream, 0);
        assert_eq!(whole.0, expected);
        for split in 0..=stream.len() {
            assert_eq!(outcome_in_two(&stream, split), whole, "split at {split}");
        }
    }
}

/// Generates names of headers that the handshake reads.
fn header_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Host",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Content-Length",
        "Origin",
        "Cookie",
        "X",
    ])
}

#[test]
fn a_negotiated_extension_is_in_the_101() {
    let request = upgrade(&handshake("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"));
    let answer = |extensions| String::from_utf8(respond_with(&request, &Accept::new(), extensions).unwrap()).unwrap();
    assert!(!answer(None).contains("Extensions"));
    assert!(answer(Some("permessage-deflate")).contains("\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_03_no_header_value_panics(
        name in header_name(),
        value in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            "[ ,;=\"\\\\a-z:/\\[\\]%0-9]{0,40}".prop_map(String::into_bytes),
        ],
    ) {
        let mut head = handshake("");
        head.truncate(head.len() - 2);
        head.extend_from_slice(&[name.as_bytes(), b": ", &value, b"\r\n\r\n"].concat());
        if let Ok(Parsed::Upgrade(request) | Parsed::Plain(request)) = parse_head(&head) {
            let _ = (request.extensions().count(), request.subprotocols().count(), request.cookies().count());
            let _ = format!("{request:?}");
            let _ = super::super::OriginPolicy::SameHost.check(&request);
            let _ = respond(&request, &Accept::new());
        }
    }

    #[test]
    fn a_28_the_101_holds_exactly_the_given_headers(
        given in proptest::collection::vec(("[!-~]{1,8}|X-[a-z]{1,5}", "\\PC{0,20}|[ -~\r\n\t\0]{0,9}"), 0..6),
    ) {
        let request = upgrade(&handshake("Sec-WebSocket-Protocol: chat\r\n"));
        let mut accept = Accept::new().subprotocol("chat");
        let mut expected: Vec<(String, String)> = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("Sec-WebSocket-Protocol", "chat"),
        ].map(|(name, value)| (name.into(), value.into())).to_vec();
        for (name, value) in given {
            let with = accept.clone().header(&name, &value);
            if with.check().is_ok() {
                accept = with;
                expected.push((name, value));
            }
        }
        let bytes = respond(&request, &accept).unwrap();
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Response::new(&mut headers);
        prop_assert_eq!(parsed.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())));
        let found: Vec<_> = parsed.headers.iter().map(|header| (header.name, header.value)).collect();
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        prop_assert_eq!(found, expected);
    }
}
