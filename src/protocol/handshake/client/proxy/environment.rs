//! Reads the proxy from environment variables.

use super::Proxy;
use super::no_proxy::bypasses;
use crate::protocol::handshake::client::url::{Url, UrlError};

/// Returns the proxy for this URL, with the rules of curl and Python's websockets. `variable` looks up an environment
/// variable.
///
/// The first of these variables that is set is used; if it is empty, there is no proxy:
///
/// * for `ws`: `ws_proxy`, `http_proxy`, `all_proxy`;
/// * for `wss`: `wss_proxy`, `https_proxy`, `all_proxy`.
///
/// Each name is looked up in lower case first, then in upper case. `HTTP_PROXY` is ignored if `REQUEST_METHOD` is set:
/// in a CGI program it contains the client's `Proxy` header (CVE-2016-5385, "httpoxy").
///
/// `no_proxy`, or else `NO_PROXY`, lists the hosts that are reached without a proxy, separated by commas or spaces.
/// `example.com`, `.example.com` and `*.example.com` match the domain and all its subdomains; `example.com:8080`
/// matches only this port; `10.0.0.0/8` and `fd00::/8` match the addresses with this prefix; `*` matches all hosts.
/// Names are not resolved, so an address in the list does not match names. The local host is not an exception and must
/// be listed.
///
/// ```
/// use threadbare::Url;
/// use threadbare::protocol::handshake::client::proxy::from_environment;
///
/// let variable = |name: &str| (name == "http_proxy").then(|| "proxy.example.com:3128".to_owned());
/// let proxy = from_environment(&Url::parse("ws://example.com")?, variable)?.expect("it is set");
/// assert_eq!(proxy.host(), "proxy.example.com");
/// # Ok::<(), threadbare::UrlError>(())
/// ```
pub fn from_environment(url: &Url, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, UrlError> {
    let either = |lower: &str| {
        let upper = lower.to_ascii_uppercase();
        let forged = || upper == "HTTP_PROXY" && variable("REQUEST_METHOD").is_some();
        variable(lower).or_else(|| if forged() { None } else { variable(&upper) })
    };
    let names = if url.is_secure() { ["wss_proxy", "https_proxy"] } else { ["ws_proxy", "http_proxy"] };
    match names.into_iter().chain(["all_proxy"]).find_map(either) {
        Some(proxy) if !proxy.trim().is_empty() => {
            let bypassed = either("no_proxy").is_some_and(|list| bypasses(&list, url));
            if bypassed { Ok(None) } else { Proxy::parse(proxy.trim()).map(Some) }
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        from_environment(&Url::parse(url).unwrap(), find).unwrap().map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn the_first_variable_that_is_set_is_used() {
        let all = [
            ("ws_proxy", "w"),
            ("WS_PROXY", "W"),
            ("http_proxy", "h"),
            ("HTTP_PROXY", "H"),
            ("wss_proxy", "s"),
            ("WSS_PROXY", "S"),
            ("https_proxy", "t"),
            ("HTTPS_PROXY", "T"),
            ("all_proxy", "a"),
            ("ALL_PROXY", "A"),
        ];
        for (url, order) in [("ws://e", ["w", "w", "h", "h", "a", "a"]), ("wss://e", ["s", "s", "t", "t", "a", "a"])] {
            let own: Vec<_> =
                all.into_iter().filter(|(_, value)| order.contains(&value.to_ascii_lowercase().as_str())).collect();
            for skipped in 0..=own.len() {
                let expected = own.get(skipped).map(|(_, value)| value.to_ascii_lowercase());
                assert_eq!(choose(url, &own[skipped..]), expected);
            }
        }
        assert_eq!(choose("ws://e", &[("https_proxy", "t"), ("wss_proxy", "s")]), None);
        assert_eq!(choose("wss://e", &[("http_proxy", "h"), ("ws_proxy", "w")]), None);
    }

    #[test]
    fn an_empty_variable_means_no_proxy() {
        assert_eq!(choose("ws://e", &[("http_proxy", ""), ("HTTP_PROXY", "h"), ("all_proxy", "a")]), None);
        assert_eq!(choose("ws://e", &[("http_proxy", " h ")]).as_deref(), Some("h"));
    }

    #[test]
    fn a_client_cannot_choose_the_proxy_of_a_cgi_program() {
        let cgi = ("REQUEST_METHOD", "GET");
        assert_eq!(choose("ws://e", &[("HTTP_PROXY", "evil"), cgi]), None);
        assert_eq!(choose("ws://e", &[("HTTP_PROXY", "evil"), ("ALL_PROXY", "a"), cgi]).as_deref(), Some("a"));
        assert_eq!(choose("ws://e", &[("http_proxy", "h"), cgi]).as_deref(), Some("h"));
        assert_eq!(choose("wss://e", &[("HTTPS_PROXY", "t"), cgi]).as_deref(), Some("t"));
    }

    #[test]
    fn hosts_in_no_proxy_have_no_proxy() {
        let with = |list: &'static str| [("http_proxy", "h"), ("no_proxy", list), ("NO_PROXY", "*")];
        assert_eq!(choose("ws://e.com", &with("e.com")), None);
        assert_eq!(choose("ws://f.com", &with("e.com")).as_deref(), Some("h"));
        assert_eq!(choose("ws://e.com", &with("")).as_deref(), Some("h"));
        assert_eq!(choose("ws://e.com", &[("http_proxy", "h"), ("NO_PROXY", "*")]), None);
        assert_eq!(choose("ws://localhost", &[("http_proxy", "h")]).as_deref(), Some("h"));
    }

    #[test]
    fn an_unsupported_proxy_is_an_error() {
        let find = |name: &str| (name == "all_proxy").then(|| "socks4://h".to_owned());
        let url = Url::parse("ws://e").unwrap();
        assert_eq!(from_environment(&url, find), Err(UrlError::ProxyScheme("socks4".into())));
    }
}
