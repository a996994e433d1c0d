//! The addresses of a host.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Instant;

use crate::transport::cancel::{CancelToken, cancelled};

/// The addresses of a host, of the two families alternately (RFC 8305 4). The system's resolver can not be interrupted,
/// so it runs on a thread of its own, which is abandoned at the deadline or when the token is raised.
pub(crate) fn resolve(host: &str, port: u16, deadline: Instant, cancel: &CancelToken) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = host.to_owned();
    let look_up = move || Ok((name.as_str(), port).to_socket_addrs()?.collect());
    let addrs = on_thread(look_up, deadline, cancel)?;
    if addrs.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    Ok(in_turns(addrs))
}

/// Has a thread look up the addresses, and abandons it at the deadline or when the token is raised.
fn on_thread(
    look_up: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    deadline: Instant,
    cancel: &CancelToken,
) -> io::Result<Vec<SocketAddr>> {
    let (sender, resolved) = crossbeam_channel::bounded(1);
    let interrupting = sender.clone();
    cancel.watch(move || drop(interrupting.try_send(Err(cancelled()))))?;
    std::thread::Builder::new().name("ws-resolver".into()).spawn(move || {
        // After the deadline there is no receiver, and after the token was raised there may be no room.
        let _ = sender.try_send(look_up());
    })?;
    resolved.recv_deadline(deadline).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Orders the addresses by alternating families, beginning with the one that the resolver puts first.
fn in_turns(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        addrs.into_iter().partition(|addr| addr.is_ipv6() == first_is_v6);
    let mut order = Vec::new();
    while !first.is_empty() || !second.is_empty() {
        order.extend(first.pop_front());
        order.extend(second.pop_front());
    }
    order
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn never() -> CancelToken {
        CancelToken::default()
    }

    #[test]
    fn no_name_is_resolved_once_it_is_cancelled() {
        let cancel = CancelToken::default();
        cancel.raise();
        assert!(resolve("localhost", 80, soon(), &cancel).is_err());
    }

    #[test]
    fn a_resolver_that_hangs_is_abandoned() {
        let (answer, hang) = crossbeam_channel::bounded::<()>(0);
        let hanging = || {
            let hang = hang.clone();
            move || hang.recv().map(|()| Vec::new()).map_err(io::Error::other)
        };
        let deadline = Instant::now() + Duration::from_millis(20);
        let error = on_thread(hanging(), deadline, &never()).expect_err("no answer");
        assert!(error.kind() == io::ErrorKind::TimedOut && Instant::now() >= deadline);
        let cancel = CancelToken::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| on_thread(hanging(), soon(), &cancel).expect_err("no answer").kind());
            cancel.raise();
            assert_eq!(waiting.join().expect("no panic"), io::ErrorKind::ConnectionAborted);
        });
        drop(answer);
    }

    #[test]
    fn the_families_take_turns() {
        let v4 = |n| SocketAddr::from((Ipv4Addr::from(n), 1));
        let v6 = |n| SocketAddr::from((Ipv6Addr::from(n), 1));
        let order = in_turns(vec![v6(1_u128), v6(2), v4(1_u32), v4(2), v4(3)]);
        assert_eq!(order, [v6(1), v4(1), v6(2), v4(2), v4(3)]);
    }

    #[test]
    fn a_name_is_resolved_and_a_literal_needs_no_resolver() {
        assert_eq!(
            resolve("127.0.0.1", 80, Instant::now(), &never()).expect("a literal"),
            [SocketAddr::from(([127, 0, 0, 1], 80))]
        );
        assert!(resolve("localhost", 80, soon(), &never()).expect("a name").iter().all(|addr| addr.ip().is_loopback()));
    }
}
