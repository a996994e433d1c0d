//! Resolves references, as in `Location`, against a base URL (RFC 3986 5.2).

use super::{Url, UrlError, check_characters, encode};
use crate::protocol::handshake::origin::is_scheme;

impl Url {
    /// Resolves a `Location` in a response from this URL. It may be an absolute URL, a URL without a scheme
    /// (`//host/path`), an absolute path, or a relative path.
    ///
    /// It is percent-encoded as the URL of a user is. A fragment is dropped because it is never sent. User and password are kept if `Location` has no host.
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// let base = Url::parse("wss://example.com/v1/chat")?;
    /// assert_eq!(base.resolve("../v2/chat")?.to_string(), "wss://example.com/v2/chat");
    /// assert_eq!(base.resolve("//example.org/")?.host(), "example.org");
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn resolve(&self, location: &str) -> Result<Url, UrlError> {
        let reference = location.trim_matches(' ').split('#').next().unwrap_or_default();
        check_characters(reference)?;
        let scheme = reference.split(['/', '?']).next().and_then(|start| start.split_once(':'));
        if scheme.is_some_and(|(scheme, _)| is_scheme(scheme)) {
            return Url::parse(reference);
        }
        if reference.starts_with("//") {
            return Url::parse(&format!("{}:{reference}", self.scheme()));
        }
        let base = self.target.split('?').next().unwrap_or_default();
        let target = match reference {
            "" => self.target.clone(),
            _ if reference.starts_with('?') => encode(&format!("{base}{reference}")),
            _ => {
                let end = reference.find('?').unwrap_or(reference.len());
                let (path, query) = reference.split_at(end);
                // RFC 3986 5.2.3: a relative path replaces the last segment.
                let folder =
                    if path.starts_with('/') { "" } else { base.rsplit_once('/').map_or("", |(folder, _)| folder) };
                let slash = if path.starts_with('/') { "" } else { "/" };
                encode(&(without_dots(&format!("{folder}{slash}{path}")) + query))
            }
        };
        Ok(Url { target, ..self.clone() })
    }
}

/// Removes the segments `.` and `..` (RFC 3986 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            kept.push(""); // the path ends with a slash
        }
    }
    format!("/{}", kept.join("/"))
}
