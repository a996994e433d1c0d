//! URLs of Unix sockets: `ws+unix:/path/of.sock:/target`. No RFC describes them; the form is the one that other libraries
//! have.

use super::{Scheme, Url, UrlError, check_characters, encode};
use crate::protocol::handshake::client::site::Site;

const SCHEME: &str = "ws+unix:";

impl Url {
    /// Parses the URL of a Unix socket; `None` if the scheme is another.
    pub(super) fn parse_unix(text: &str) -> Option<Result<Url, UrlError>> {
        let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
        scheme.eq_ignore_ascii_case(SCHEME).then(|| parse(text, rest))
    }
}

/// Parses what is behind the scheme of `text`.
fn parse(text: &str, rest: &str) -> Result<Url, UrlError> {
    check_characters(text)?;
    if let Some((_, fragment)) = rest.split_once('#') {
        return Err(UrlError::Fragment(fragment.to_owned())); // RFC 6455 3
    }
    // An authority can only be empty, as in `file:///`.
    let rest = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(UrlError::UnixSocket(text.to_owned())),
        None => rest,
    };
    let (path, target) = match rest.split_once(":/") {
        Some((path, target)) => (path, format!("/{target}")),
        None => (rest.strip_suffix(':').unwrap_or(rest), "/".to_owned()),
    };
    if path.is_empty() || path == "@" || path.contains('?') {
        return Err(UrlError::UnixSocket(text.to_owned()));
    }
    Ok(Url { scheme: Scheme::Unix, site: Site::of_socket(path), target: encode(&target) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_url_of_a_unix_socket_has_a_path_and_a_target() {
        for (text, path, target) in [
            ("ws+unix:/run/app.sock:/chat?room=7", "/run/app.sock", "/chat?room=7"),
            ("ws+unix:/run/app.sock:/", "/run/app.sock", "/"),
            ("ws+unix:/run/app.sock:", "/run/app.sock", "/"),
            ("ws+unix:/run/app.sock", "/run/app.sock", "/"),
            ("ws+unix:///run/app.sock:/a:/b", "/run/app.sock", "/a:/b"),
            ("WS+Unix:/run/a:b.sock:/c", "/run/a:b.sock", "/c"),
            ("ws+unix:app.sock:/", "app.sock", "/"),
            ("ws+unix:@app:/chat", "@app", "/chat"),
            ("ws+unix:/run/%20/caf\u{e9}:/%20", "/run/%20/caf\u{e9}", "/%20"),
            ("ws+unix:/a b:/c d\u{e9}", "/a b", "/c%20d%C3%A9"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.socket_path(), url.target()), (Some(Path::new(path)), target), "{text}");
            assert_eq!((url.host(), url.port(), url.authority().as_str()), ("localhost", 80, "localhost"));
            assert!(!url.is_secure() && url.user().is_none());
            assert_eq!(Url::parse(&url.to_string()).expect("its own form"), url);
        }
        assert_eq!(Url::parse("ws://localhost/").expect("a URL").socket_path(), None);
    }

    #[test]
    fn invalid_urls_of_unix_sockets_are_refused() {
        for bad in [
            "ws+unix:",
            "ws+unix::/",
            "ws+unix://a",
            "ws+unix://a/b.sock:/",
            "ws+unix:@:/",
            "ws+unix:/run/app.sock?room=7",
        ] {
            assert_eq!(Url::parse(bad), Err(UrlError::UnixSocket(bad.to_owned())), "{bad}");
        }
        assert_eq!(Url::parse("ws+unix:/a\n:/"), Err(UrlError::Character('\n')));
        assert_eq!(Url::parse("ws+unix:/a:/b#c"), Err(UrlError::Fragment("c".into())));
        assert!(matches!(Url::parse("wss+unix:/a:/b"), Err(UrlError::NotAbsolute(_))));
    }
}
