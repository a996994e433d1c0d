//! Why there is no connection, and whether another attempt may succeed.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use crate::client::error::ConnectError;
use crate::protocol::close::{CloseCause, CloseCode, CloseReason};
use crate::protocol::handshake::client::HandshakeError;
use crate::protocol::handshake::client::proxy::ProxyError;
use crate::protocol::http::{HttpDate, ResponseError, ResponseHead};
use crate::transport::clock;
use crate::transport::tls::error::TlsError;

/// Why a reconnecting client has no connection.
///
/// ```
/// use threadbare::Outage;
///
/// fn explain(outage: &Outage) {
///     match outage {
///         Outage::Connect(error) => println!("can not connect: {error}"),
///         Outage::Closed(reason) => println!("disconnected: {reason}"),
///         outage => println!("{outage}"),
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Outage {
    /// An attempt to connect failed.
    Connect(ConnectError),
    /// The connection ended: the server closed it or broke the protocol, or the network lost it.
    Closed(CloseReason),
    /// This end closed the connection: because its [`max_lifetime`](crate::Config::max_lifetime) was over, because of
    /// [`SlowConsumer::Disconnect`](crate::SlowConsumer::Disconnect), or because the application asked for that, through a
    /// [`Peer`](crate::Peer).
    ClosedHere {
        /// The code of our close frame; 1005 if it had none.
        sent: CloseCode,
        /// How the closing handshake ended: with the server's answer, or without one.
        reason: CloseReason,
    },
}

impl Outage {
    /// Whether another attempt may succeed. A reconnecting client tries again if it may, unless
    /// [`retry_if`](crate::Reconnect::retry_if) decides otherwise.
    ///
    /// Another attempt may succeed after
    /// * network errors, failed look-ups, and timeouts;
    /// * a handshake that the server or a proxy answers with 5xx, 408, 425 or 429;
    /// * a connection that was lost, timed out, or was [aborted](crate::Peer::abort) (1006);
    /// * a connection that the server closed with 1001, 1005 (no code), 1011 to 1014, or an application's code other
    ///   than 3000 and 3003;
    /// * a connection that this end closed with 1001 or 1008, whatever the server answers: so does the library when
    ///   [`max_lifetime`](crate::Config::max_lifetime) is over (1001), and when the server reads nothing (1008);
    /// * a connection that this library failed with 1011, because a message in parts was not finished.
    ///
    /// Another attempt would fail in the same way after
    /// * an invalid URL, header or setting, a URL that needs TLS, or a redirect that is not followed;
    /// * an error of the [`socket_hook`](crate::ClientBuilder::socket_hook), or one by which the system says that this
    ///   process may not connect, or can not: [`PermissionDenied`](std::io::ErrorKind::PermissionDenied),
    ///   [`InvalidInput`](std::io::ErrorKind::InvalidInput), [`Unsupported`](std::io::ErrorKind::Unsupported);
    /// * any other response to the handshake, such as 401, 403, 404, or one that is no WebSocket handshake at all;
    /// * a server that closed with 1000 (the purpose is fulfilled), 1002, 1003, 1007 to 1010 (it objects to what it was
    ///   sent), 3000 (unauthorized) or 3003 (forbidden);
    /// * a server that broke the protocol or sent a message over the limit;
    /// * a close that the application asked for with another code than these, whether the server answers it or not.
    ///
    /// ```
    /// use threadbare::{CloseCause, CloseCode, CloseReason, Outage};
    ///
    /// let restart = CloseReason::new(CloseCode::GOING_AWAY, "", CloseCause::Peer);
    /// assert!(Outage::Closed(restart).is_transient());
    /// let forbidden = CloseReason::new(CloseCode(3003), "", CloseCause::Peer);
    /// assert!(!Outage::Closed(forbidden).is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Outage::Connect(error) => connect_is_transient(error),
            Outage::Closed(reason) => closed_is_transient(reason),
            Outage::ClosedHere { sent, .. } => matches!(*sent, CloseCode::GOING_AWAY | CloseCode::POLICY_VIOLATION),
        }
    }

    /// How long the server or the proxy asks the client to wait: `Retry-After`, in seconds or until a date (RFC 9110 10.2.3).
    /// A date is compared with the `Date` of the same response, because clocks differ, and with this system's clock if there is
    /// none. One that has passed is no time to wait.
    ///
    /// ```
    /// use threadbare::{CloseCause, CloseReason, Outage};
    ///
    /// let lost = Outage::Closed(CloseReason::abnormal("the connection was reset", CloseCause::Lost));
    /// assert_eq!(lost.retry_after(), None); // only the response to a handshake can have it
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let head = match self {
            Outage::Connect(ConnectError::Handshake { source: HandshakeError::Refused(refusal), .. }) => refusal.head(),
            Outage::Connect(ConnectError::Proxy { source: ProxyError::Refused(head), .. }) => head,
            _ => return None,
        };
        retry_after(head)
    }
}

fn retry_after(head: &ResponseHead) -> Option<Duration> {
    let value = head.header("Retry-After")?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that overflows is a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let today = clock::today();
    let now = head.header("Date").and_then(|date| HttpDate::parse(date, today)).unwrap_or(today);
    let until = HttpDate::parse(value, now)?;
    Some(Duration::from_secs(until.as_unix().saturating_sub(now.as_unix())))
}

/// A certificate is renewed, and a clock is set right. What else is wrong with one is so until somebody changes it, as are
/// the settings of the other end.
fn tls_is_transient(error: &TlsError) -> bool {
    matches!(error, TlsError::Expired | TlsError::NotYetValid | TlsError::Alert(_) | TlsError::Protocol(_))
}

fn connect_is_transient(error: &ConnectError) -> bool {
    match error {
        ConnectError::Timeout { .. } => true,
        ConnectError::Tls { source, .. } => tls_is_transient(source),
        ConnectError::Resolve { source, .. } | ConnectError::Io { source, .. } => io_is_transient(source),
        ConnectError::Proxy { source, .. } => proxy_is_transient(source),
        ConnectError::Handshake { source, .. } => match source {
            HandshakeError::Refused(refusal) => status_is_transient(refusal.status()),
            // A server that shuts down may do so in the middle of its response.
            HandshakeError::Response(error) => matches!(error, ResponseError::Truncated { .. }),
            _ => false,
        },
        _ => false,
    }
}

/// Whether the network is at fault. These kinds say that the call was wrong, or that this process may not make it, which
/// time does not change.
fn io_is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    !matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

fn proxy_is_transient(error: &ProxyError) -> bool {
    match error {
        ProxyError::Refused(head) => status_is_transient(head.status()),
        ProxyError::Response(error) => matches!(error, ResponseError::Truncated { .. }),
        // RFC 1928 6: all but a refusal by rule, and a command or address that the proxy does not support.
        ProxyError::Reply(code) => matches!(code, 1 | 3..=6),
        _ => false,
    }
}

fn status_is_transient(status: u16) -> bool {
    // RFC 9110 15.5.9 (408), RFC 8470 5.2 (425) and RFC 6585 4 (429): the client may repeat the request. RFC 9110 15.6:
    // of the server errors, 501 and 505 say that the server does not support the request.
    matches!(status, 408 | 425 | 429) || (matches!(status, 500..=599) && !matches!(status, 501 | 505))
}

fn closed_is_transient(reason: &CloseReason) -> bool {
    match reason.cause {
        CloseCause::Lost | CloseCause::TimedOut | CloseCause::Aborted => true,
        // Closed here, or a callback failed: no fault of the network.
        CloseCause::Local | CloseCause::Panicked => false,
        // Closed by this library, because the server reads too slowly, or because a message in parts was not finished.
        CloseCause::Failed => matches!(reason.code, CloseCode::POLICY_VIOLATION | CloseCode::INTERNAL_ERROR),
        CloseCause::Peer => !matches!(reason.code.0, 1000 | 1002 | 1003 | 1007..=1010 | 3000 | 3003),
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outage::Connect(_) => f.write_str("the client could not connect"),
            Outage::Closed(_) => f.write_str("the connection has ended"),
            Outage::ClosedHere { sent, .. } => write!(f, "the connection was closed with {sent}"),
        }
    }
}

impl std::error::Error for Outage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Outage::Connect(error) => Some(error),
            Outage::Closed(reason) | Outage::ClosedHere { reason, .. } => Some(reason),
        }
    }
}

/// Why a reconnecting client has ended for good.
///
/// ```
/// use threadbare::Ended;
///
/// fn explain(ended: &Ended) {
///     match ended {
///         Ended::ByApplication(_) => println!("closed"),
///         Ended::Final(outage) => println!("there is no use in trying again: {outage}"),
///         ended => println!("{ended}"),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ended {
    /// The application closed or dropped the client. Has the reason of the connection's end, if there was a connection.
    ByApplication(Option<CloseReason>),
    /// Another attempt would not help.
    Final(Arc<Outage>),
    /// [`max_attempts`](crate::Reconnect::max_attempts) or [`give_up_after`](crate::Reconnect::give_up_after) was
    /// reached.
    GaveUp {
        /// Attempts since the start, or since the last connection that lasted for
        /// [`stable_after`](crate::Reconnect::stable_after).
        attempts: u32,
        /// The latest reason.
        last: Arc<Outage>,
    },
    /// A hook of [`Reconnect`](crate::Reconnect) panicked.
    Panicked,
}

impl Ended {
    /// Whether the client was closed cleanly: by the application or by the server, with a completed closing handshake
    /// if there was a connection.
    ///
    /// ```
    /// use threadbare::Ended;
    ///
    /// assert!(Ended::ByApplication(None).is_clean()); // there was no connection
    /// assert!(!Ended::Panicked.is_clean());
    /// ```
    #[must_use]
    pub fn is_clean(&self) -> bool {
        match self {
            Ended::ByApplication(reason) => reason.as_ref().is_none_or(CloseReason::is_clean),
            Ended::Final(outage) => match &**outage {
                Outage::Closed(reason) | Outage::ClosedHere { reason, .. } => reason.is_clean(),
                Outage::Connect(_) => false,
            },
            Ended::GaveUp { .. } | Ended::Panicked => false,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::ByApplication(_) => f.write_str("the client was closed"),
            Ended::Final(_) => f.write_str("trying again would not help"),
            Ended::GaveUp { attempts, .. } => write!(f, "given up after {attempts} attempts"),
            Ended::Panicked => f.write_str("a hook of the reconnecting client panicked"),
        }
    }
}

impl std::error::Error for Ended {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Ended::ByApplication(reason) => reason.as_ref().map(|reason| reason as _),
            Ended::Final(outage) | Ended::GaveUp { last: outage, .. } => Some(&**outage),
            Ended::Panicked => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::error::Phase;
    use crate::protocol::handshake::client::{ClientRequest, Url, UrlError, verify};

    fn handshake(source: HandshakeError) -> ConnectError {
        ConnectError::Handshake { url: "ws://localhost/".into(), source }
    }

    fn proxy(source: ProxyError) -> ConnectError {
        ConnectError::Proxy { addr: "proxy:1080".into(), source }
    }

    fn refused(head: &str) -> Outage {
        let head = ResponseHead::parse(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).expect("a head");
        let request = ClientRequest::new(Url::parse("ws://localhost/").expect("a URL"));
        Outage::Connect(handshake(verify(head, &request, [0; 16]).expect_err("no 101")))
    }

    #[test]
    fn transient_errors_are_retried() {
        for error in [
            ConnectError::io("no connection")(io::ErrorKind::ConnectionRefused.into()),
            ConnectError::Timeout { phase: Phase::Handshake, addr: "host:80".into() },
            ConnectError::Resolve { host: "host".into(), source: io::ErrorKind::NotFound.into() },
            proxy(ProxyError::Reply(5)),
            ConnectError::Tls { addr: "host:443".into(), source: TlsError::Expired },
        ] {
            assert!(Outage::Connect(error).is_transient());
        }
        for error in [
            ConnectError::Url(UrlError::NoHost),
            ConnectError::Tls { addr: "host:443".into(), source: TlsError::UnknownIssuer },
            ConnectError::TooManyRedirects,
            proxy(ProxyError::LoginRefused),
            proxy(ProxyError::Reply(2)),
            handshake(HandshakeError::AcceptMissing),
        ] {
            assert!(!Outage::Connect(error).is_transient());
        }
    }

    #[test]
    fn transient_statuses_are_retried() {
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(refused(&format!("{status} Later")).is_transient(), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 407, 410, 426, 501, 505] {
            assert!(!refused(&format!("{status} Never")).is_transient(), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let after = |value: &str| refused(&format!("503 Busy\r\nRetry-After: {value}")).retry_after();
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for other in ["", "-1", "+1", "1.5", "soon", "Fri, 31 Dec 1999 23:59:60"] {
            assert_eq!(after(other), None, "{other:?}");
        }
        assert_eq!(refused("503 Busy").retry_after(), None);
    }

    #[test]
    fn retry_after_is_read_as_a_date_beside_the_servers_clock() {
        let after = |lines: &str| refused(&format!("503 Busy\r\n{lines}")).retry_after();
        let date = "Date: Fri, 31 Dec 1999 23:58:59 GMT\r\nRetry-After: ";
        for form in ["Fri, 31 Dec 1999 23:59:59 GMT", "Friday, 31-Dec-99 23:59:59 GMT", "Fri Dec 31 23:59:59 1999"] {
            assert_eq!(after(&format!("{date}{form}")), Some(Duration::from_secs(60)), "{form}");
        }
        assert_eq!(after(&format!("{date}Fri, 31 Dec 1999 23:00:00 GMT")), Some(Duration::ZERO));
        // Beside this system's clock.
        let soon = HttpDate::from_unix(clock::today().as_unix() + 3_600);
        for lines in [format!("Retry-After: {soon}"), format!("Date: now\r\nRetry-After: {soon}")] {
            let wait = after(&lines).expect("a date");
            assert!((3_000..=3_600).contains(&wait.as_secs()), "{wait:?}");
        }
        assert_eq!(after("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn transient_close_codes_are_retried() {
        let transient = |code, cause| Outage::Closed(CloseReason::new(CloseCode(code), "", cause)).is_transient();
        for code in [1001, 1005, 1011, 1012, 1013, 1014, 3008, 4000] {
            assert!(transient(code, CloseCause::Peer), "{code}");
        }
        for code in [1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003] {
            assert!(!transient(code, CloseCause::Peer), "{code}");
        }
        for cause in [CloseCause::Lost, CloseCause::TimedOut, CloseCause::Aborted] {
            assert!(transient(1006, cause), "{cause:?}");
        }
        assert!(transient(1008, CloseCause::Failed) && !transient(1009, CloseCause::Failed));
        assert!(transient(1011, CloseCause::Failed), "a message was not finished");
        assert!(!transient(1011, CloseCause::Panicked));
    }

    #[test]
    fn a_close_of_our_own_is_judged_by_our_own_code() {
        for (code, cause) in [(1000, CloseCause::Local), (1001, CloseCause::Local), (1006, CloseCause::Lost)] {
            let reason = CloseReason::new(CloseCode(code), "", cause);
            let outage = |sent| Outage::ClosedHere { sent: CloseCode(sent), reason: reason.clone() };
            assert!(outage(1001).is_transient() && outage(1008).is_transient(), "{code}");
            assert!(!outage(1000).is_transient() && !outage(1005).is_transient() && !outage(4000).is_transient());
            assert_eq!(Ended::Final(Arc::new(outage(1000))).is_clean(), cause == CloseCause::Local);
        }
    }

    #[test]
    fn what_is_no_fault_of_the_network_is_not_retried() {
        for kind in [io::ErrorKind::InvalidInput, io::ErrorKind::PermissionDenied, io::ErrorKind::Unsupported] {
            assert!(!Outage::Connect(ConnectError::io("no connection")(kind.into())).is_transient());
            let resolve = ConnectError::Resolve { host: "host".into(), source: kind.into() };
            assert!(!Outage::Connect(resolve).is_transient());
        }
        let hook = ConnectError::Hook(io::ErrorKind::NotConnected.into());
        assert!(!Outage::Connect(hook).is_transient());
    }
}
