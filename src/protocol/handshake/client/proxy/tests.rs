use proptest::prelude::*;

use super::*;
use crate::protocol::http::HeadError;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// Formats an error with its sources.
fn chain(error: &dyn core::error::Error) -> String {
    let causes = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", causes.unwrap_or_default())
}

/// The bytes that the client sent, and the bytes after the proxy's answer or the error.
type Outcome = (Vec<u8>, Result<Option<Vec<u8>>, String>);

/// Passes the bytes of a proxy to a tunnel, in pieces that end at `ends`. The proxy does not wait for the client.
fn play(proxy: &str, url: &str, stream: &[u8], ends: impl IntoIterator<Item = usize>) -> Outcome {
    let mut tunnel = Tunnel::new(&Proxy::parse(proxy).unwrap(), &Url::parse(url).unwrap()).unwrap();
    let (mut sent, mut used) = (Vec::new(), 0);
    for end in ends {
        loop {
            match tunnel.advance(&stream[used..end]) {
                Ok(Step::Receive) => break,
                Ok(Step::Send { consumed, bytes }) => {
                    used += consumed;
                    sent.extend(bytes);
                }
                Ok(Step::Open { consumed }) => return (sent, Ok(Some(stream[used + consumed..].to_vec()))),
                Err(error) => return (sent, Err(chain(&error))),
            }
        }
    }
    (sent, Ok(None))
}

/// Checks that the result is the same at every split.
fn outcome(proxy: &str, url: &str, stream: &[u8]) -> Outcome {
    let whole = play(proxy, url, stream, [stream.len()]);
    for split in 0..=stream.len() {
        assert_eq!(play(proxy, url, stream, [split, stream.len()]), whole, "split at {split}");
    }
    assert_eq!(play(proxy, url, stream, 0..=stream.len()), whole);
    whole
}

fn fails(proxy: &str, stream: &[u8]) -> String {
    outcome(proxy, "wss://h", stream).1.unwrap_err()
}

#[test]
fn urls_of_proxies_are_parsed() {
    for (text, shown, host, port) in [
        ("http://p:3128", "http://p:3128", "p", 3128),
        ("p", "http://p:80", "p", 80),
        ("u:x@p:1/", "http://p:1", "p", 1),
        ("socks5://127.0.0.1", "socks5h://127.0.0.1:1080", "127.0.0.1", 1080),
        ("SOCKS5H://u:x@[::1]:9/", "socks5h://[::1]:9", "::1", 9),
    ] {
        let proxy = Proxy::parse(text).unwrap();
        assert_eq!((proxy.to_string().as_str(), proxy.host(), proxy.port()), (shown, host, port), "{text}");
        assert_eq!(format!("{proxy:?}"), format!("Proxy(\"{shown}\")"));
    }
    for (bad, error) in [
        ("https://p", UrlError::ProxyScheme("https".into())),
        ("socks4://p", UrlError::ProxyScheme("socks4".into())),
        ("socks://p", UrlError::ProxyScheme("socks".into())),
        ("http://p/pac", UrlError::ProxyTarget("/pac".into())),
        ("http://p?x", UrlError::ProxyTarget("?x".into())),
        ("", UrlError::NoHost),
        ("p:x", UrlError::Port("x".into())),
        ("p q", UrlError::Host("p q".into())),
    ] {
        assert_eq!(Proxy::parse(bad), Err(error), "{bad}");
    }
}

#[test]
fn an_http_proxy_opens_a_tunnel() {
    let (sent, left) = outcome("p", "wss://h/x", b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n");
    assert_eq!(sent, b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
    assert_eq!(left, Ok(Some(vec![])));

    let answer = b"HTTP/1.0 299 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\nrest\r\n\r\n";
    let (sent, left) = outcome("http://us%65r:p%3Aw@p", "ws://[::1]:9/", answer);
    assert_eq!(sent, b"CONNECT [::1]:9 HTTP/1.1\r\nHost: [::1]:9\r\nProxy-Authorization: Basic dXNlcjpwOnc=\r\n\r\n");
    assert_eq!(left, Ok(Some(b"rest\r\n\r\n".to_vec())));

    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx";
    assert_eq!(outcome("p", "ws://h", interim).1, Ok(Some(b"x".to_vec())));
}

#[test]
fn a_refusal_of_an_http_proxy_is_an_error() {
    for (answer, shown) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "another user and password: it answers 407 Proxy Auth"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\nbody", "the proxy answers 502 Bad Gateway"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "the proxy answers 101"),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "the proxy answers 302"),
        ("HTTP/1.1 200 OK\nX: y\r\n\r\n", "LF without CR"),
        ("\x05\x00", "not HTTP/1"),
    ] {
        let error = fails("p", answer.as_bytes());
        assert!(error.contains(shown), "{error}");
    }
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 17_000]].concat();
    let (_, result) = play("p", "ws://h", &endless, [endless.len()]);
    assert_eq!(result, Err(chain(&ProxyError::Response(ResponseError::Head(HeadError::TooLarge)))));
}

#[test]
fn a_socks_proxy_opens_a_tunnel() {
    let reply_v4 = b"\x05\x00\x05\x00\x00\x01\x7f\0\0\x01\x04\x38rest";
    let (sent, left) = outcome("socks5://p", "wss://example.com", reply_v4);
    assert_eq!(sent, b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x01\xbb");
    assert_eq!(left, Ok(Some(b"rest".to_vec())));

    let reply_v6 = [b"\x05\x00\x05\x00\x00\x04".as_slice(), &[7; 18], b"rest"].concat();
    let (sent, left) = outcome("socks5h://p", "ws://10.0.0.1:8080", &reply_v6);
    assert_eq!(sent, b"\x05\x01\x00\x05\x01\x00\x01\x0a\0\0\x01\x1f\x90");
    assert_eq!(left, Ok(Some(b"rest".to_vec())));

    let reply_name = b"\x05\x00\x05\x00\x00\x03\x04host\x04\x38";
    let (sent, left) = outcome("socks5://p", "ws://[::1]", reply_name);
    assert_eq!(sent, [b"\x05\x01\x00\x05\x01\x00\x04".as_slice(), &[0; 15], b"\x01\x00\x50"].concat());
    assert_eq!(left, Ok(Some(vec![])));
}

#[test]
fn user_and_password_are_sent_to_a_socks_proxy() {
    let end = b"\x05\x00\x00\x01\0\0\0\0\0\0";
    let stream = [b"\x05\x02\x01\x00".as_slice(), end].concat();
    let (sent, left) = outcome("socks5://us%20er:pa:ss@p", "ws://h", &stream);
    assert_eq!(sent, b"\x05\x02\x00\x02\x01\x05us er\x05pa:ss\x05\x01\x00\x03\x01h\x00\x50");
    assert_eq!(left, Ok(Some(vec![])));
    // The proxy may choose the method without authentication.
    let (sent, _) = outcome("socks5://u:p@p", "ws://h", &[b"\x05\x00".as_slice(), end].concat());
    assert_eq!(sent, b"\x05\x02\x00\x02\x05\x01\x00\x03\x01h\x00\x50");
}

#[test]
fn a_refusal_of_a_socks_proxy_is_an_error() {
    for (proxy, stream, shown) in [
        ("socks5://p", b"HTTP/1.1 400".as_slice(), "does not speak SOCKS5: it begins with byte 0x48"),
        ("socks5://p", b"\x04\x00", "does not speak SOCKS5"),
        ("socks5://p", b"\x05\xff", "another way to log in"),
        ("socks5://p", b"\x05\x02", "method 2, not offered"),
        ("socks5://u@p", b"\x05\x01", "method 1, not offered"),
        ("socks5://u@p", b"\x05\x02\x01\x01", "refuses user and password"),
        ("socks5://p", b"\x05\x00\x04", "does not speak SOCKS5"),
        ("socks5://p", b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0", "connection refused (SOCKS5 5)"),
        ("socks5://p", b"\x05\x00\x05\xee", "unassigned code (SOCKS5 238)"),
        ("socks5://p", b"\x05\x00\x05\x00\x00\x02", "address type 2"),
    ] {
        let error = fails(proxy, stream);
        assert!(error.contains(shown), "{error}");
    }
}

#[test]
fn truncated_answers_do_not_open_a_tunnel() {
    let stream = b"\x05\x02\x01\x00\x05\x00\x00\x03\x04host\x04\x38";
    for end in 0..stream.len() {
        assert_eq!(outcome("socks5://u:p@p", "ws://h", &stream[..end]).1, Ok(None));
    }
    let tunnel = Tunnel::new(&Proxy::parse("p").unwrap(), &url("ws://h")).unwrap();
    assert!(chain(&tunnel.end(b"")).ends_with("the connection was closed without an answer"));
}

#[test]
fn socks_names_over_255_bytes_are_refused() {
    let proxy = |user: usize, password: usize| {
        Proxy::parse(&format!("socks5://{}:{}@p", "u".repeat(user), "p".repeat(password))).unwrap()
    };
    assert!(Tunnel::new(&proxy(255, 255), &url("ws://h")).is_ok());
    for (user, password) in [(256, 1), (1, 256), (0, 1)] {
        assert!(matches!(Tunnel::new(&proxy(user, password), &url("ws://h")), Err(ProxyError::Credentials)));
    }
    let host = |length: usize| url(&format!("ws://{}", "h".repeat(length)));
    assert!(Tunnel::new(&proxy(1, 1), &host(255)).is_ok());
    assert!(matches!(Tunnel::new(&proxy(1, 1), &host(256)), Err(ProxyError::HostTooLong)));
}

#[test]
fn debug_omits_passwords() {
    for (proxy, shown) in [("http://user:hidden@p", "Tunnel(Connect)"), ("socks5://user:hidden@p", "Tunnel(Socks)")] {
        let tunnel = Tunnel::new(&Proxy::parse(proxy).unwrap(), &url("ws://h")).unwrap();
        assert_eq!(format!("{tunnel:?}"), shown);
    }
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_the_split(
        socks in proptest::collection::vec(prop_oneof![Just(5_u8), 0_u8..=4, any::<u8>()], 0..40),
        parts in proptest::collection::vec(
            prop::sample::select(vec!["HTTP/1.1 100 C\r\n", "HTTP/1.1 200 OK\r\n", "\r\n", "A: b\r\n", "\n", "\u{5}"]),
            0..6,
        ),
    ) {
        let _ = outcome("socks5://u:p@p", "ws://h", &socks);
        let _ = outcome("socks5://u:p@p", "ws://h", &[b"\x05\x02\x01\x00\x05\x00".as_slice(), &socks].concat());
        let _ = outcome("p", "ws://h", parts.concat().as_bytes());
    }
}
