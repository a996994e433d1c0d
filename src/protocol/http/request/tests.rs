use proptest::prelude::*;

use super::*;
use crate::protocol::http::HeadLimits;
use crate::protocol::http::request_line::is_target;

fn addr() -> PeerAddr {
    ([127, 0, 0, 1], 9).into()
}

fn request(head: &str) -> Request {
    Request::parse(head.as_bytes(), addr()).unwrap()
}

#[test]
fn the_size_grows_with_the_bytes_and_with_the_header_lines() {
    let size = |headers: &str| request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).size();
    let (none, one, long, two) = (size(""), size("A: b\r\n"), size("A: bcd\r\n"), size("A: b\r\nC: d\r\n"));
    assert!(none > size_of::<Parts>() && long == one + 2 && one > none + 6 && two - one == one - none);
}

fn status(head: &[u8]) -> u16 {
    Request::parse(head, addr()).unwrap_err().status()
}

#[test]
fn the_parts_of_a_request_are_returned() {
    let r = request(
        "GET /chat/a%20b?x=1?y HTTP/1.1\r\nHost: h:1\r\nX-A:  one \r\norigin: http://h\r\nx-a:\r\nX-A: \ttwo\t\r\n\
         Cookie: a=1; b=\"2\";c=d=e ; junk\r\nCookie: a=3\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\nsec-websocket-protocol: third\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; x=1\r\n\r\n",
    );
    assert_eq!(
        (r.method(), r.target(), r.path(), r.query()),
        ("GET", "/chat/a%20b?x=1?y", "/chat/a%20b", Some("x=1?y"))
    );
    assert_eq!((r.host(), r.origin(), r.addr()), (Some("h:1"), Some("http://h"), &addr()));
    assert_eq!((r.header("X-a"), r.header("X-B")), (Some("one"), None));
    assert_eq!(r.header_values("x-A").collect::<Vec<_>>(), ["one", "", "two"]);
    assert_eq!(r.headers().nth(1), Some(("X-A", b"one".as_slice())));
    assert_eq!(r.cookies().collect::<Vec<_>>(), [("a", "1"), ("b", "\"2\""), ("c", "d=e"), ("a", "3")]);
    assert_eq!((r.cookie("a"), r.cookie("A")), (Some("1"), None));
    assert_eq!(r.subprotocols().collect::<Vec<_>>(), ["chat", "superchat", "third"]);
    assert_eq!(r.extensions().map(|offer| offer.name().to_owned()).collect::<Vec<_>>(), ["permessage-deflate"]);
    assert_eq!(r.version(), HttpVersion::Http11);
}

#[test]
fn targets_in_absolute_form_are_split_into_path_and_query() {
    for (target, path, query) in [
        ("http://h/a?b", "/a", Some("b")),
        ("http://h", "/", None),
        ("http://h?b", "/", Some("b")),
        ("/a?u=http://h/x", "/a", Some("u=http://h/x")),
        ("*", "*", None),
    ] {
        let r = request(&format!("GET {target} HTTP/1.0\r\n\r\n"));
        assert_eq!((r.path(), r.query()), (path, query), "{target}");
    }
}

#[test]
fn values_that_are_not_utf_8_are_returned_as_bytes() {
    let r = Request::parse(b"GET / HTTP/1.1\r\nX: caf\xe9\r\nX: b\r\nSec-WebSocket-Protocol: caf\xe9\r\n\r\n", addr())
        .unwrap();
    assert_eq!(r.headers().next(), Some(("X", b"caf\xe9".as_slice())));
    assert_eq!(r.header("X"), Some("b"));
    assert_eq!(r.subprotocols().count(), 0);
}

#[test]
fn debug_omits_secrets() {
    let text =
        format!("{:?}", request("GET /p HTTP/1.1\r\nHost: shown\r\nauthorization: hid1\r\nCOOKIE: hid2\r\n\r\n"));
    assert!(text.contains("shown") && text.contains("/p") && !text.contains("hid"), "{text}");
}

#[test]
fn malformed_heads_are_refused() {
    for (expected, head) in [
        (400, "GET / HTTP/1.1\r\nA : b\r\n\r\n"),      // space before the colon
        (400, "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"), // obs-fold
        (400, "GET / HTTP/1.1\r\n A: b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n: b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nA: b\n\r\n"),
        (400, "GET / HTTP/1.1\r\nA: \0\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nA: b\r\n"),
        (400, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), // two
        (400, "GET /\r\n\r\n"),
        (400, "GET  / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1 \r\n\r\n"),
        (400, "GET / http/1.1\r\n\r\n"),
        (400, "GET / HTTP/11\r\n\r\n"),
        (400, "G@T / HTTP/1.1\r\n\r\n"),
        (400, "GET /a#b HTTP/1.1\r\n\r\n"),
        (400, "GET /caf\u{e9} HTTP/1.1\r\n\r\n"),
        (400, "GET /a b HTTP/1.1\r\n\r\n"),
        (400, ""),
        (400, "GET /a b HTTP/2.0\r\n\r\n"),
        (505, "GET / HTTP/2.0\r\n\r\n"),
        (505, "GET / HTTP/0.9\r\n\r\n"),
        (505, "\r\nPRI * HTTP/2.0\r\n\r\n"),
        (400, "GET / HTTP/1.22\r\n\r\n"),
    ] {
        assert_eq!(status(head.as_bytes()), expected, "{head:?}");
    }
}

#[test]
fn t_11_limits_on_the_head_are_exact() {
    let limits = HeadLimits::default();
    let with_headers = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(Request::parse(with_headers(limits.max_headers).as_bytes(), addr()).is_ok());
    assert_eq!(status(with_headers(limits.max_headers + 1).as_bytes()), 431);
    assert_eq!(status(with_headers(2_000).as_bytes()), 431);

    let with_target = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(length - 1));
    assert!(Request::parse(with_target(limits.max_target_size).as_bytes(), addr()).is_ok());
    assert_eq!(status(with_target(limits.max_target_size + 1).as_bytes()), 414);
    assert_eq!(status(with_target(limits.max_head_size * 2).as_bytes()), 414);
}

#[test]
fn targets_are_uris_or_what_browsers_send() {
    for good in ["/", "/a-b.c_~!$&'()*+,;=:@/%7f%Ff", "/|^[]", "/?a=|^`{}[]/?:@%20", "http://[::1]:80/x?y"] {
        assert!(is_target(good.as_bytes()), "{good}");
    }
    for bad in [
        "/\"", "/<", "/>", "/\\", "/%", "/%4", "/%zz", "/%4g", "/?%zz", "/?\"", "/?<", "/?>", "/?\\", "/{", "/`",
        "/#a", "/?a#b",
    ] {
        assert!(!is_target(bad.as_bytes()), "{bad}");
        assert_eq!(status(format!("GET {bad} HTTP/1.1\r\n\r\n").as_bytes()), 400, "{bad}");
    }
}

#[test]
fn a_later_minor_version_is_taken_as_http_1_1() {
    for (line, version) in [
        ("GET / HTTP/1.2", HttpVersion::Http11),
        ("\r\nGET / HTTP/1.9", HttpVersion::Http11),
        ("GET / HTTP/1.0", HttpVersion::Http10),
    ] {
        let r = request(&format!("{line}\r\nX: HTTP/1.2\r\n\r\n"));
        assert_eq!((r.version(), r.target(), r.header("X")), (version, "/", Some("HTTP/1.2")), "{line:?}");
    }
}

#[test]
fn the_clients_own_request_has_no_limits() {
    let head = format!("GET /{} HTTP/1.1\r\n{}\r\n", "\"<".repeat(9_000), "a: b\r\n".repeat(200));
    let own = Request::of_client(head.as_bytes(), addr()).unwrap();
    assert_eq!((own.target().len(), own.headers().count()), (18_001, 200));
    assert_eq!(status(head.as_bytes()), 414);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Request::parse(&bytes, addr());
    }

    #[test]
    fn headers_are_parsed_as_they_were_written(
        headers in proptest::collection::vec(("[a-zA-Z-]{1,9}", "([!-~]([ -~]{0,20}[!-~])?)?"), 0..20),
    ) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let r = request(&format!("GET / HTTP/1.1\r\n{lines}\r\n"));
        let given: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        prop_assert_eq!(r.headers().collect::<Vec<_>>(), given);
    }
}
