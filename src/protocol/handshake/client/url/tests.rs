use proptest::prelude::*;

use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn the_parts_of_a_url_are_returned() {
    for (text, secure, host, port, target, authority) in [
        ("ws://example.com", false, "example.com", 80, "/", "example.com"),
        ("wss://example.com/", true, "example.com", 443, "/", "example.com"),
        ("http://example.com:443/a", false, "example.com", 443, "/a", "example.com:443"),
        ("HTTPS://EXAMPLE.com:8443/A/b?c=D", true, "example.com", 8443, "/A/b?c=D", "example.com:8443"),
        ("ws://h:80", false, "h", 80, "/", "h"),
        ("ws://h:", false, "h", 80, "/", "h"),
        ("wss://h:443?q", true, "h", 443, "/?q", "h"),
        ("ws://h?q=/x?y", false, "h", 80, "/?q=/x?y", "h"),
        ("ws://127.0.0.1:9", false, "127.0.0.1", 9, "/", "127.0.0.1:9"),
        ("ws://[::1]/x", false, "::1", 80, "/x", "[::1]"),
        ("wss://[2001:DB8:0::1]:8443", true, "2001:db8::1", 8443, "/", "[2001:db8::1]:8443"),
        (
            "ws://my_host-1.xn--caf-dma.fr./%20/.././/@:",
            false,
            "my_host-1.xn--caf-dma.fr.",
            80,
            "/%20/.././/@:",
            "my_host-1.xn--caf-dma.fr.",
        ),
        ("ws://u:p@h/a@b:c", false, "h", 80, "/a@b:c", "h"),
        (" ws://h/a b ", false, "h", 80, "/a%20b", "h"),
        ("ws://h/caf\u{e9}?q=a b", false, "h", 80, "/caf%C3%A9?q=a%20b", "h"),
        ("ws://h?\u{2028}", false, "h", 80, "/?%E2%80%A8", "h"),
        ("ws://h/%c3%a9/%", false, "h", 80, "/%c3%a9/%", "h"),
        ("ws://[fe80::1%25eth0]:8080/", false, "fe80::1", 8080, "/", "[fe80::1]:8080"),
        ("ws://[FE80::1%eth0.1]", false, "fe80::1", 80, "/", "[fe80::1]"),
    ] {
        let url = url(text);
        assert_eq!(
            (url.is_secure(), url.host(), url.port(), url.target(), url.authority().as_str()),
            (secure, host, port, target, authority),
            "{text}"
        );
        assert_eq!(Url::parse(&url.to_string()).unwrap().to_string(), url.to_string());
    }
    assert_eq!(url("ws://[::1]").ip(), Some([0, 0, 0, 0, 0, 0, 0, 1].into()));
    assert_eq!(url("ws://127.0.0.1").ip(), Some([127, 0, 0, 1].into()));
    assert_eq!(url("ws://h").ip(), None);
}

#[test]
fn the_zone_of_an_address_is_kept_beside_it() {
    for (text, zone, shown) in [
        ("ws://[fe80::1%25eth0]:1/a", Some("eth0"), "ws://[fe80::1%25eth0]:1/a"),
        ("wss://[fe80::1%wlan-0_a.5~]", Some("wlan-0_a.5~"), "wss://[fe80::1%25wlan-0_a.5~]/"),
        ("ws://[fe80::1%25]", Some("25"), "ws://[fe80::1%2525]/"),
        ("ws://[fe80::1%252]", Some("2"), "ws://[fe80::1%252]/"),
        ("ws://[fe80::1]", None, "ws://[fe80::1]/"),
    ] {
        let url = url(text);
        assert_eq!((url.zone(), url.to_string().as_str()), (zone, shown), "{text}");
        assert_eq!(Url::parse(shown).unwrap(), url);
    }
    assert_eq!(url("ws://[fe80::1%25eth0]").resolve("/b").unwrap().zone(), Some("eth0"));
    assert_eq!(url("ws://[fe80::1%25eth0]").ip(), url("ws://[fe80::1]").ip());
}

#[cfg(not(feature = "idn"))]
#[test]
fn a_host_that_is_not_ascii_is_an_error_that_shows_what_to_write() {
    for (text, host, shown) in [
        (
            "ws://caf\u{e9}.fr:80/",
            "caf\u{e9}.fr",
            "the host \"caf\u{e9}.fr\" is not in ASCII: write xn--caf-dma.fr, or enable",
        ),
        (
            "ws://\u{5d0}.il/",
            "\u{5d0}.il",
            "the host \"\u{5d0}.il\" is not in ASCII: write its punycode form (xn--...), or",
        ),
    ] {
        let error = Url::parse(text).unwrap_err();
        assert_eq!(error, UrlError::NonAsciiHost(host.to_owned()));
        assert!(error.to_string().starts_with(shown), "{error}");
    }
}

#[cfg(feature = "idn")]
#[test]
fn a_host_that_is_not_ascii_is_sent_in_its_ascii_form() {
    let url = url("ws://u:p@B\u{fc}CHER.example:8080/\u{fc}");
    assert_eq!((url.host(), url.authority().as_str()), ("xn--bcher-kva.example", "xn--bcher-kva.example:8080"));
    assert_eq!(url.to_string(), "ws://xn--bcher-kva.example:8080/%C3%BC");
    for bad in ["ws://\u{ff0f}x/", "ws://a\u{ff20}b/", "ws://\u{2028}/", "ws://a\u{ff1a}80/"] {
        assert!(matches!(Url::parse(bad), Err(UrlError::Host(_))), "{bad:?}");
    }
}

#[test]
fn user_and_password_are_decoded() {
    for (userinfo, user, password) in [
        ("u:p@", Some("u"), Some("p")),
        ("u@", Some("u"), Some("")),
        (":p@", Some(""), Some("p")),
        ("u%40x:p%3Aq:r@", Some("u@x"), Some("p:q:r")),
        ("caf%C3%A9:%25@", Some("caf\u{e9}"), Some("%")),
        ("@", None, None),
        (":@", None, None),
        ("", None, None),
    ] {
        let url = url(&format!("ws://{userinfo}h/"));
        assert_eq!((url.user(), url.password()), (user, password), "{userinfo}");
        assert_eq!((url.host(), url.to_string().as_str()), ("h", "ws://h/"));
    }
    for userinfo in
        ["u%4", "u%zz", "u:%", "u@v:p", "a%3Ab:c", "u:%0d%0a", "u:%00", "%ff:p", "u\\", "caf\u{e9}", "[u]", "u\"v"]
    {
        assert_eq!(Url::parse(&format!("ws://{userinfo}@h/")), Err(UrlError::Userinfo), "{userinfo}");
    }
}

#[test]
fn errors_name_the_invalid_part() {
    let text = |text: &str| text.to_owned();
    for (bad, error) in [
        ("", UrlError::NotAbsolute(text(""))),
        ("example.com", UrlError::NotAbsolute(text("example.com"))),
        ("localhost:8080/?u=http://h", UrlError::NotAbsolute(text("localhost:8080/?u=http://h"))),
        ("//example.com", UrlError::NotAbsolute(text("//example.com"))),
        ("ws:/example.com", UrlError::NotAbsolute(text("ws:/example.com"))),
        ("://example.com", UrlError::NotAbsolute(text("://example.com"))),
        ("user:secret@h", UrlError::NotAbsolute(text("...@h"))),
        ("ftp://example.com", UrlError::Scheme(text("ftp"))),
        ("ws+tcp://a", UrlError::Scheme(text("ws+tcp"))),
        ("ws+unix://a", UrlError::UnixSocket(text("ws+unix://a"))),
        ("ws://", UrlError::NoHost),
        ("ws:///path", UrlError::NoHost),
        ("ws://:80", UrlError::NoHost),
        ("ws://u:p@", UrlError::NoHost),
        ("ws://?q", UrlError::NoHost),
        ("ws://::1", UrlError::NoHost),
        ("ws://fe80::1/", UrlError::Host(text("fe80::1"))),
        ("ws://[::1", UrlError::Host(text("[::1"))),
        ("ws://[::1]x", UrlError::Host(text("[::1]x"))),
        ("ws://[fe80::1%]", UrlError::Host(text("[fe80::1%]"))),
        ("ws://[fe80::1%25a%2Fb]", UrlError::Host(text("[fe80::1%25a%2Fb]"))),
        ("ws://[fe80::1%25a b]", UrlError::Host(text("[fe80::1%25a b]"))),
        ("ws://a b/", UrlError::Host(text("a b"))),
        ("ws://[1.2.3.4]", UrlError::Host(text("[1.2.3.4]"))),
        ("ws://a%20b", UrlError::Host(text("a%20b"))),
        ("ws://good.com\\@evil.com", UrlError::Userinfo),
        ("ws://good.com\\evil.com", UrlError::Host(text("good.com\\evil.com"))),
        ("ws://a,b", UrlError::Host(text("a,b"))),
        ("ws://h:65536", UrlError::Port(text("65536"))),
        ("ws://h:0", UrlError::Port(text("0"))),
        ("ws://h:-1", UrlError::Port(text("-1"))),
        ("ws://h:+1", UrlError::Port(text("+1"))),
        ("ws://h:80x/", UrlError::Port(text("80x"))),
        ("ws://[::1]:x", UrlError::Port(text("x"))),
        ("ws://h/a#top", UrlError::Fragment(text("top"))),
        ("ws://h#", UrlError::Fragment(text(""))),
        ("ws://u:sec#ret@h", UrlError::Fragment(text("...@h"))),
        ("ws://h/\r\nX: y", UrlError::Character('\r')),
        ("ws://h\n", UrlError::Character('\n')),
        ("ws://h/\0", UrlError::Character('\0')),
        ("ws://h\t/", UrlError::Character('\t')),
        ("ws://h/\u{7f}", UrlError::Character('\u{7f}')),
    ] {
        assert_eq!(Url::parse(bad), Err(error), "{bad:?}");
    }
    for (error, shown) in [
        (UrlError::Scheme("ftp".into()), "the scheme \"ftp\" is none of ws, wss, ws+unix, http and https"),
        (UrlError::Port("0".into()), "the port \"0\" is no number from 1 to 65535"),
        (UrlError::Character('\r'), "the URL contains the control character '\\r', which has to be percent-encoded"),
    ] {
        assert_eq!(error.to_string(), shown);
    }
}

#[test]
fn display_and_debug_omit_user_and_password() {
    let url = url("wss://name:hidden@example.com:1/a?b");
    assert_eq!(url.to_string(), "wss://example.com:1/a?b");
    assert_eq!(format!("{url:?}"), "Url(\"wss://example.com:1/a?b\")");
}

#[test]
fn references_are_resolved_as_the_rfc_shows() {
    // RFC 3986 5.4, without fragments and other schemes.
    let base = url("ws://a/b/c/d;p?q");
    for (reference, expected) in [
        ("g", "ws://a/b/c/g"),
        ("./g", "ws://a/b/c/g"),
        ("g/", "ws://a/b/c/g/"),
        ("/g", "ws://a/g"),
        ("//g", "ws://g/"),
        ("?y", "ws://a/b/c/d;p?y"),
        ("g?y", "ws://a/b/c/g?y"),
        ("#s", "ws://a/b/c/d;p?q"),
        ("g?y#s", "ws://a/b/c/g?y"),
        (";x", "ws://a/b/c/;x"),
        ("g;x", "ws://a/b/c/g;x"),
        ("", "ws://a/b/c/d;p?q"),
        (".", "ws://a/b/c/"),
        ("./", "ws://a/b/c/"),
        ("..", "ws://a/b/"),
        ("../", "ws://a/b/"),
        ("../g", "ws://a/b/g"),
        ("../..", "ws://a/"),
        ("../../", "ws://a/"),
        ("../../g", "ws://a/g"),
        ("../../../g", "ws://a/g"),
        ("../../../../g", "ws://a/g"),
        ("/./g", "ws://a/g"),
        ("/../g", "ws://a/g"),
        ("g.", "ws://a/b/c/g."),
        ("..g", "ws://a/b/c/..g"),
        ("./../g", "ws://a/b/g"),
        ("./g/.", "ws://a/b/c/g/"),
        ("g/./h", "ws://a/b/c/g/h"),
        ("g/../h", "ws://a/b/c/h"),
        ("g;x=1/./y", "ws://a/b/c/g;x=1/y"),
        ("g;x=1/../y", "ws://a/b/c/y"),
        ("g?y/./x", "ws://a/b/c/g?y/./x"),
        ("g?y/../x", "ws://a/b/c/g?y/../x"),
        ("/g?u=http://h", "ws://a/g?u=http://h"),
        ("./a:b", "ws://a/b/c/a:b"),
        ("wss://h:1/x/../y", "wss://h:1/x/../y"),
        ("http://h#s", "ws://h/"),
        ("//h:1?z", "ws://h:1/?z"),
        ("caf\u{e9}/../a b", "ws://a/b/c/a%20b"),
        ("?q=\u{e9} ", "ws://a/b/c/d;p?q=%C3%A9"),
        (" //h:1/a b?c d", "ws://h:1/a%20b?c%20d"),
    ] {
        assert_eq!(base.resolve(reference).unwrap().to_string(), expected, "{reference}");
    }
    assert_eq!(url("wss://a").resolve("//b").unwrap().to_string(), "wss://b/");
    assert_eq!(url("wss://a:1").resolve("x").unwrap().to_string(), "wss://a:1/x");
}

#[test]
fn invalid_references_are_refused() {
    let base = url("ws://u:p@a/b");
    for (bad, error) in [
        ("mailto:x", UrlError::NotAbsolute("mailto:x".into())),
        ("http:g", UrlError::NotAbsolute("http:g".into())),
        ("ftp://h/", UrlError::Scheme("ftp".into())),
        ("//", UrlError::NoHost),
        ("/a\r\nX: y", UrlError::Character('\r')),
    ] {
        assert_eq!(base.resolve(bad), Err(error), "{bad:?}");
    }
    assert_eq!(base.resolve("c").unwrap().user(), Some("u"));
    assert_eq!(base.resolve("//a/c").unwrap().user(), None);
}

proptest! {
    #[test]
    fn a_28_no_url_breaks_a_request_line(
        text in "(ws|http)://[ -~\r\n\0\u{e9}]{0,30}",
        reference in "[ -~\r\n\0\u{e9}]{0,30}|[./a?]{0,12}",
    ) {
        for url in [Url::parse(&text), url("ws://h/a/b").resolve(&reference)].into_iter().flatten() {
            prop_assert!(url.target().starts_with('/'));
            let line = [url.target(), &url.authority()].concat();
            prop_assert!(line.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
            let again = Url::parse(&url.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), url.to_string());
        }
    }
}

#[test]
fn the_error_for_a_servers_name_of_a_unix_socket_says_what_to_write() {
    let error = Url::parse("unix:/run/app.sock").expect_err("no URL");
    assert!(error.to_string().contains("ws+unix:/path/of.sock:/target"), "{error}");
}
