//! The addresses of a host.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::time::Instant;

use crate::transport::cancel::{CancelToken, cancelled};

/// The addresses of a host, of the two families alternately (RFC 8305 4). The system's resolver can not be interrupted,
/// so it runs on a thread of its own, which is abandoned at the deadline or when the token is raised.
///
/// `zone` is that of an IPv6 address (RFC 4007 11), the name or the number of a network interface.
pub(crate) fn resolve(
    host: &str,
    zone: Option<&str>,
    port: u16,
    deadline: Instant,
    cancel: &CancelToken,
) -> io::Result<Vec<SocketAddr>> {
    match (host.parse(), zone) {
        (Ok(IpAddr::V6(ip)), Some(zone)) => {
            let scope = scope_id(zone, deadline, cancel)?;
            return Ok(vec![SocketAddrV6::new(ip, port, 0, scope).into()]);
        }
        (Ok(ip), _) => return Ok(vec![SocketAddr::new(ip, port)]),
        (Err(_), _) => {}
    }
    let name = host.to_owned();
    let look_up = move || Ok((name.as_str(), port).to_socket_addrs()?.collect());
    let addrs = on_thread(look_up, deadline, cancel)?;
    if addrs.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    Ok(in_turns(addrs))
}

/// Returns the number of a network interface. The resolver knows their names, in addresses of the local link.
fn scope_id(zone: &str, deadline: Instant, cancel: &CancelToken) -> io::Result<u32> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    let any = format!("fe80::1%{zone}");
    let look_up = move || Ok((any.as_str(), 1).to_socket_addrs()?.collect());
    let addrs = on_thread(look_up, deadline, cancel).or_else(|error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::ConnectionAborted => Err(error),
        _ => Ok(Vec::new()),
    })?;
    let scopes = addrs.iter().filter_map(|addr| match addr {
        SocketAddr::V6(addr) if addr.scope_id() != 0 => Some(addr.scope_id()),
        _ => None,
    });
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no network interface is named {zone:?}"));
    scopes.into_iter().next().ok_or_else(unknown)
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
        assert!(resolve("localhost", None, 80, soon(), &cancel).is_err());
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
            resolve("127.0.0.1", None, 80, Instant::now(), &never()).expect("a literal"),
            [SocketAddr::from(([127, 0, 0, 1], 80))]
        );
        assert!(
            resolve("localhost", None, 80, soon(), &never())
                .expect("a name")
                .iter()
                .all(|addr| addr.ip().is_loopback())
        );
    }

    #[test]
    fn a_zone_is_a_number_or_the_name_of_a_network_interface() {
        let resolved = |zone| resolve("fe80::1", Some(zone), 80, soon(), &never());
        let with_scope =
            |scope| vec![SocketAddr::from(SocketAddrV6::new("fe80::1".parse().expect("v6"), 80, 0, scope))];
        assert_eq!(resolved("7").expect("a number"), with_scope(7));
        // The names of interfaces are the system's.
        if cfg!(target_os = "linux") {
            let number = std::fs::read_to_string("/sys/class/net/lo/ifindex").expect("a loopback interface");
            let number = number.trim().parse().expect("a number");
            assert_eq!(resolved("lo").expect("its name"), with_scope(number));
        }
        let error = resolved("no-such-zone").expect_err("nobody's name");
        assert_eq!(error.to_string(), "no network interface is named \"no-such-zone\"");
    }
}
