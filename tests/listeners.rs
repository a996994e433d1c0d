//! What a server can listen on: several addresses at once, Unix sockets, and listeners that were made elsewhere; the
//! options of each listener.
#![cfg(unix)]

mod common;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::servers::Echo;
use common::sockets::{TestDir, abstract_name, address, is_socket, url};
use common::{DEADLINE, eventually, logged};
use socket2::SockRef;
use threadbare::{
    BuildError, Client, Config, ConnectError, EventLoop, EventRef, Listener, Listeners, Message, PeerAddr, Server,
    ServerBuilder, ServerHandle,
};

/// The ways in which a server runs.
#[derive(Clone, Copy, Debug)]
enum Way {
    Serve(usize),
    Bind(usize),
    Inline,
}

const WAYS: [Way; 5] = [Way::Serve(1), Way::Serve(2), Way::Bind(1), Way::Bind(2), Way::Inline];

/// An echo server.
struct Running {
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(way: Way, builder: ServerBuilder, listeners: impl Into<Listeners>) -> Running {
        logged::install();
        let (handle, thread) = match way {
            Way::Serve(workers) => {
                let server = builder.workers(workers).serve(listeners, |_| Echo).expect("a server");
                (server.handle(), std::thread::spawn(move || server.join()))
            }
            Way::Bind(workers) => {
                let server = builder.workers(workers).bind(listeners).expect("a server");
                let handle = server.handle();
                let serve = move || {
                    let mut events = server.iter();
                    while let Some(event) = events.next_ref() {
                        echo(event);
                    }
                };
                (handle, std::thread::spawn(serve))
            }
            Way::Inline => {
                let event_loop = builder.bind_inline(listeners).expect("an event loop");
                let handle = event_loop.handle();
                (handle, std::thread::spawn(move || run(event_loop)))
            }
        };
        Running { handle, thread: Some(thread) }
    }

    fn shutdown(mut self) {
        self.handle.shutdown(DEADLINE);
        self.thread.take().expect("not joined yet").join().expect("no panic");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown(Duration::from_secs(1));
    }
}

fn run(mut event_loop: EventLoop) {
    event_loop.run(echo).expect("a poll");
}

fn echo(event: EventRef<'_>) {
    if let EventRef::Message(peer, message) = event {
        let _ = peer.send(message); // the peer may be gone
    }
}

fn connect(url: &str) -> Result<Client, ConnectError> {
    Client::builder().no_proxy().timeout(DEADLINE).connect(url)
}

fn expect_echo(url: &str) -> Client {
    let client = connect(url).unwrap_or_else(|error| panic!("{url}: {}", common::chain(&error)));
    client.send("hello").expect("open");
    assert_eq!(client.recv_timeout(DEADLINE).expect("an echo"), Some(Message::from("hello")), "{url}");
    client
}

/// The URL of an address that a server listens on.
fn url_of(addr: &PeerAddr) -> String {
    match addr {
        PeerAddr::Unix(Some(path)) => url(path),
        addr => format!("ws://{addr}/"),
    }
}

// Several listeners

#[test]
fn a_server_accepts_from_each_of_its_listeners() {
    for way in WAYS {
        let dir = TestDir::new();
        let listeners = [
            Listener::from("127.0.0.1:0"),
            Listener::from(address(&dir.join("app.sock"))),
            Listener::from("[::1]:0"),
            Listener::unix(abstract_name()),
        ];
        let server = Running::start(way, Server::builder(), listeners);
        let addrs = server.handle.local_addrs().to_vec();
        assert_eq!(addrs.len(), 4, "{addrs:?}");
        assert_eq!(addrs[0], server.handle.local_addr());
        assert!(addrs[2].as_socket_addr().is_some_and(|addr| addr.is_ipv6() && addr.port() > 0), "{addrs:?}");
        let clients: Vec<_> = addrs.iter().map(|addr| expect_echo(&url_of(addr))).collect();
        for (client, addr) in clients.iter().zip(&addrs) {
            assert_eq!(client.peer_addr(), *addr);
            assert_eq!(client.local_addr() == PeerAddr::Unix(None), addr.ip().is_none(), "{way:?}");
        }
        assert_eq!(server.handle.connections(), 4);
        drop(clients);
        server.shutdown();
        assert!(addrs.iter().all(|addr| connect(&url_of(addr)).is_err()), "{way:?}: none listens");
        assert!(dir.files().is_empty(), "{way:?}: {:?}", dir.files());
    }
}

#[test]
fn a_server_that_can_not_open_one_of_its_listeners_opens_none() {
    let dir = TestDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let listeners = [Listener::from(taken), Listener::unix(dir.join("app.sock")), Listener::unix("/nowhere/app.sock")];
    let error = Server::bind(listeners).expect_err("no such directory");
    assert!(error.to_string().starts_with("unix:/nowhere/app.sock can not be bound; its directory"), "{error}");
    assert!(dir.files().is_empty(), "{:?}", dir.files());
    let _free = TcpListener::bind(taken).expect("it was closed");
    let error = Server::bind(Vec::new()).expect_err("nothing to listen on");
    assert_eq!(
        common::chain(&error),
        "a setting could not work: listeners is empty, but must be one listener at least"
    );
}

#[test]
fn whatever_the_standard_library_makes_an_address_of_can_be_listened_on() {
    let addr = Server::bind("127.0.0.1:0").expect("a server").local_addr();
    let host = addr.ip();
    let text = addr.to_string();
    let addrs = [addr, addr];
    for listeners in [
        Listeners::from(addr),
        (&addr).into(),
        (host, addr.port()).into(),
        ("127.0.0.1", addr.port()).into(),
        ("127.0.0.1".to_owned(), addr.port()).into(),
        text.as_str().into(),
        (&text).into(),
        text.clone().into(),
        addrs.as_slice().into(),
        Listener::tcp(addr).into(),
        vec![Listener::tcp(addr)].into(),
        [addr].into_iter().map(Listener::from).collect(),
    ] {
        let shown = format!("{listeners:?}");
        let server = Server::builder().workers(1).bind(listeners).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(server.local_addr(), addr, "{shown}");
    }
    // The first that can be bound.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let alternatives = [taken.local_addr().expect("an address"), addr];
    assert_eq!(Server::bind(&alternatives[..]).expect("the second is free").local_addr(), addr);
}

#[test]
fn ipv6_alone_leaves_the_port_to_ipv4() {
    let port = Server::bind("0.0.0.0:0").expect("a server").local_addr().port();
    let only = Listener::from(("::", port)).only_v6();
    let server = Server::builder().workers(1).bind([Listener::from(("0.0.0.0", port)), only]).expect("both");
    assert_eq!(server.local_addrs().len(), 2);
    let both = [Listener::from(("0.0.0.0", port + 1)), Listener::from(("::", port + 1))];
    if cfg!(target_os = "linux") {
        let _ = Server::bind(both).expect_err("it is for both, or the port is taken");
    }
}

// Unix sockets

#[test]
fn the_mode_of_a_socket_is_what_was_asked_for() {
    let dir = TestDir::new();
    let mode = |name: &str| fs::metadata(dir.join(name)).expect("a file").permissions().mode() & 0o7777;
    let listeners = [0o600, 0o660, 0o777, 0o000].map(|mode| Listener::unix(dir.join(&format!("{mode:o}"))).mode(mode));
    let server = Server::bind(listeners).expect("a server");
    assert_eq!(["600", "660", "777", "0"].map(mode), [0o600, 0o660, 0o777, 0]);
    drop(server);
    // By default, what the umask leaves.
    let _plain = UnixListener::bind(dir.join("plain")).expect("a socket");
    let _server = Server::bind(address(&dir.join("default"))).expect("a server");
    assert_eq!(mode("default"), mode("plain"));
}

#[test]
fn an_invalid_mode_is_an_error_of_the_start() {
    let dir = TestDir::new();
    for (listener, why) in [
        (Listener::from("127.0.0.1:0").mode(0o660), "mode is 0o660, but must be unset"),
        (Listener::unix(abstract_name()).mode(0o660), "mode is 0o660, but must be unset"),
        (Listener::unix(dir.join("app.sock")).mode(0o1777), "mode is 0o1777, but must be 0o777 at most"),
    ] {
        let error = common::chain(&Server::bind(listener).expect_err("it makes no sense"));
        assert!(error.contains(why), "{error}");
    }
    assert!(dir.files().is_empty());
}

#[test]
fn what_is_no_socket_is_not_replaced() {
    let dir = TestDir::new();
    fs::write(dir.join("file"), "precious").expect("a file");
    fs::create_dir(dir.join("directory")).expect("a directory");
    symlink(dir.join("file"), dir.join("link")).expect("a link");
    let before = dir.files();
    for name in &before {
        let error = Server::bind(address(&dir.join(name))).expect_err("something else is there").to_string();
        assert!(error.contains("what is there is no socket"), "{error}");
    }
    assert_eq!(dir.files(), before, "no temporary file is left");
    assert_eq!(fs::read_to_string(dir.join("file")).expect("a file"), "precious");
    // A path that no socket can have.
    let long = dir.join(&"x".repeat(120));
    let error = Server::bind(Listener::unix(&long)).expect_err("too long");
    assert!(
        matches!(&error, BuildError::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput),
        "{error}"
    );
}

#[test]
fn a_socket_is_replaced_and_the_server_before_does_not_remove_it() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    // One that a process left behind.
    drop(UnixListener::bind(&path).expect("a socket"));
    let first = Running::start(Way::Serve(1), Server::builder(), address(&path));
    let inode = fs::metadata(&path).expect("a file").ino();
    let client = expect_echo(&url(&path));
    let second = Running::start(Way::Serve(1), Server::builder(), address(&path));
    assert_ne!(fs::metadata(&path).expect("a file").ino(), inode);
    drop(expect_echo(&url(&path)));
    client.send("the first server goes on").expect("open");
    assert!(client.recv_timeout(DEADLINE).expect("an echo").is_some());
    drop(client);
    first.shutdown();
    assert!(is_socket(&path), "it is the second server's");
    drop(expect_echo(&url(&path)));
    assert_eq!(dir.files(), ["app.sock"]);
    // A file of somebody else.
    fs::remove_file(&path).expect("a file");
    fs::write(&path, "another").expect("a file");
    second.shutdown();
    assert_eq!(fs::read_to_string(&path).expect("it was not removed"), "another");
}

#[test]
fn a_path_is_removed_although_the_process_changes_its_directory() {
    // Another process, for the directory is the process's.
    if let Some(dir) = std::env::var_os("THREADBARE_TEST_DIR") {
        std::env::set_current_dir(&dir).expect("a directory");
        let server = Server::bind("unix:app.sock").expect("a server");
        assert_eq!(server.local_addrs(), [PeerAddr::Unix(Some("app.sock".into()))]);
        std::env::set_current_dir("/").expect("a directory");
        return drop(server);
    }
    let dir = TestDir::new();
    let mut child = std::process::Command::new(std::env::current_exe().expect("a path"));
    child.args(["--exact", "a_path_is_removed_although_the_process_changes_its_directory"]);
    assert!(child.env("THREADBARE_TEST_DIR", dir.join("")).status().expect("it runs").success());
    assert!(dir.files().is_empty(), "{:?}", dir.files());
}

#[test]
fn no_client_is_refused_while_servers_replace_each_others_socket() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let mut server = Running::start(Way::Serve(1), Server::builder(), address(&path));
    let load = Load::start(url(&path));
    for _ in 0..20 {
        let next = Running::start(Way::Serve(1), Server::builder(), address(&path));
        load.wait_for_more(5);
        server.retire();
        server = next;
    }
    load.finish();
}

#[test]
fn a_limit_per_address_does_not_apply_to_unix_sockets() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let config = Config::default().max_connections_per_address(1).max_connections(4);
    let listeners = [Listener::unix(&path), Listener::from("127.0.0.1:0")];
    let server = Running::start(Way::Serve(2), Server::builder().config(config), listeners);
    let tcp = format!("ws://{}/", server.handle.local_addr());
    let mut clients = vec![expect_echo(&tcp)];
    assert!(connect(&tcp).is_err(), "one per address");
    clients.extend((0..3).map(|_| expect_echo(&url(&path))));
    assert!(connect(&url(&path)).is_err(), "four in all");
    drop(clients);
    eventually("all have left", || server.handle.connections() == 0);
    drop(expect_echo(&url(&path)));
}

// Listeners that were made elsewhere

#[test]
fn a_listener_that_was_made_elsewhere_is_used() {
    for way in WAYS {
        let dir = TestDir::new();
        let path = dir.join("app.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let unix = UnixListener::bind(&path).expect("a socket");
        let (ours_tcp, ours_unix) = (tcp.try_clone().expect("a listener"), unix.try_clone().expect("a listener"));
        let addr = tcp.local_addr().expect("an address");
        let server = Running::start(way, Server::builder(), [Listener::from(tcp), Listener::from(unix)]);
        assert_eq!(server.handle.local_addrs(), [PeerAddr::from(addr), PeerAddr::Unix(Some(path.clone()))]);
        let urls = [format!("ws://{addr}/"), url(&path)];
        drop(urls.each_ref().map(|url| expect_echo(url)));
        server.shutdown();
        // What connects now is for the next that has the listener.
        assert!(is_socket(&path), "{way:?}: the file is not the server's");
        let waiting = [
            std::thread::spawn(move || drop(TcpStream::connect(addr).expect("it listens"))),
            std::thread::spawn(move || drop(UnixStream::connect(path).expect("it listens"))),
        ];
        let next = Running::start(way, Server::builder(), [Listener::from(ours_tcp), Listener::from(ours_unix)]);
        waiting.into_iter().for_each(|client| client.join().expect("connected"));
        drop(urls.each_ref().map(|url| expect_echo(url)));
        next.shutdown();
        assert!(urls.iter().all(|url| connect(url).is_err()), "{way:?}: none listens");
    }
}

#[test]
fn what_waits_at_a_listener_is_answered_unless_it_was_made_elsewhere() {
    logged::install();
    let given = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ours = given.try_clone().expect("a listener");
    let mut first = Server::builder().bind_inline(given).expect("an event loop");
    // Nobody accepts this one before the end.
    let mut waiting = common::Client::tcp(first.local_addr());
    waiting.send(common::request("/", "").as_bytes());
    first.shutdown(DEADLINE);
    let _next = Running::start(Way::Serve(1), Server::builder(), ours);
    assert!(waiting.head().starts_with("HTTP/1.1 101 "), "the next server has accepted it");

    let mut own = Server::builder().bind_inline("127.0.0.1:0").expect("an event loop");
    let mut waiting = common::Client::tcp(own.local_addr());
    waiting.send(common::request("/", "").as_bytes());
    own.shutdown(DEADLINE);
    assert_eq!(waiting.status(), 503, "there is no next server");
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_does_not_listen_is_an_error_of_the_start() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let error = common::chain(&Server::bind(TcpListener::from(socket)).expect_err("it does not listen"));
    assert_eq!(error, "the TCP listener that was given can not be used: it is no stream socket that listens");
    let datagram = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    let given = UnixListener::from(std::os::fd::OwnedFd::from(datagram));
    let error = common::chain(&Server::bind(given).expect_err("it does not listen"));
    assert_eq!(error, "the Unix listener that was given can not be used: it is no stream socket that listens");
}

#[test]
fn no_client_is_refused_while_servers_take_over_a_listener() {
    for unix in [false, true] {
        let dir = TestDir::new();
        let (next_listener, url): (Box<dyn Fn() -> Listener>, String) = if unix {
            let path = dir.join("app.sock");
            let listener = UnixListener::bind(&path).expect("a socket");
            (Box::new(move || listener.try_clone().expect("a listener").into()), url(&path))
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let addr = listener.local_addr().expect("an address");
            (Box::new(move || listener.try_clone().expect("a listener").into()), format!("ws://{addr}/"))
        };
        let mut server = Running::start(Way::Serve(2), Server::builder(), next_listener());
        let load = Load::start(url);
        for generation in 0..20 {
            let way = WAYS[generation % WAYS.len()];
            let next = Running::start(way, Server::builder(), next_listener());
            load.wait_for_more(5);
            server.retire();
            server = next;
        }
        load.finish();
    }
}

impl Running {
    /// Accepts no more, and ends when the clients have left.
    fn retire(self) {
        self.handle.stop_accepting();
        eventually("the clients of the old server leave", || self.handle.connections() == 0);
        self.shutdown();
    }
}

/// Clients that connect, echo a message and leave, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    echoes: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(url: String) -> Load {
        logged::install();
        let (stop, echoes) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let run = |_| {
            let (url, stop, echoes) = (url.clone(), stop.clone(), echoes.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let client = expect_echo(&url);
                    let reason = client.finish(DEADLINE).expect("in time");
                    assert!(reason.is_clean(), "{reason}");
                    echoes.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let threads = (0..4).map(run).collect();
        Load { stop, echoes, threads }
    }

    fn wait_for_more(&self, count: usize) {
        let before = self.echoes.load(Ordering::SeqCst);
        eventually("clients connect", || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client failed");
            self.echoes.load(Ordering::SeqCst) >= before + count
        });
    }

    fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no client was refused");
        }
    }
}

#[test]
fn a_server_that_accepts_no_more_goes_on() {
    for way in WAYS {
        let server = Running::start(way, Server::builder(), "127.0.0.1:0");
        let url = format!("ws://{}/", server.handle.local_addr());
        let client = expect_echo(&url);
        server.handle.stop_accepting();
        server.handle.stop_accepting();
        eventually("nobody listens", || connect(&url).is_err());
        client.send("still here").expect("open");
        assert_eq!(client.recv_timeout(DEADLINE).expect("an echo"), Some(Message::from("still here")), "{way:?}");
        drop(client);
        server.handle.shutdown(DEADLINE);
        server.handle.stop_accepting();
    }
}

/// A client that is under way when the server stops accepting.
#[test]
fn opening_handshakes_under_way_are_completed_when_the_server_accepts_no_more() {
    for way in WAYS {
        let server = Running::start(way, Server::builder(), "127.0.0.1:0");
        let mut slow = common::Client::tcp(server.handle.local_addr());
        let request = common::request("/", "");
        slow.send(&request.as_bytes()[..20]);
        eventually("it is accepted", || server.handle.connections() == 1);
        server.handle.stop_accepting();
        eventually("nobody listens", || TcpStream::connect(server.handle.local_addr()).is_err());
        slow.send(&request.as_bytes()[20..]);
        assert!(slow.head().starts_with("HTTP/1.1 101 "), "{way:?}");
        slow.send(&common::text("hello"));
        assert_eq!(slow.expect_frame(), common::Frame::text("hello"));
    }
}

// Options of sockets

#[test]
fn the_hooks_of_a_listener_see_its_sockets() {
    for way in WAYS {
        let dir = TestDir::new();
        let path = dir.join("app.sock");
        let calls: Arc<[AtomicUsize; 3]> = Arc::default();
        let counter = |index: usize| {
            let calls = calls.clone();
            move || {
                calls[index].fetch_add(1, Ordering::SeqCst);
            }
        };
        let (listening, tcp, unix) = (counter(0), counter(1), counter(2));
        let listeners = [
            Listener::from("127.0.0.1:0")
                .listener_hook(move |socket| {
                    listening();
                    SockRef::from(socket).set_recv_buffer_size(64 << 10)
                })
                .socket_hook(move |socket| {
                    tcp();
                    assert!(socket.nodelay()?, "it is set already");
                    let size = SockRef::from(socket).recv_buffer_size()?;
                    assert!((64 << 10..=128 << 10).contains(&size), "inherited: {size}");
                    SockRef::from(socket).set_keepalive(true)
                }),
            Listener::unix(&path).unix_socket_hook(move |socket| {
                unix();
                assert!(socket.peer_addr()?.is_unnamed());
                Ok(())
            }),
            Listener::from("127.0.0.1:0"),
        ];
        let server = Running::start(way, Server::builder(), listeners);
        let urls: Vec<_> = server.handle.local_addrs().iter().map(url_of).collect();
        drop((expect_echo(&urls[0]), expect_echo(&urls[0]), expect_echo(&urls[1]), expect_echo(&urls[2])));
        assert_eq!(calls.each_ref().map(|calls| calls.load(Ordering::SeqCst)), [1, 2, 1], "{way:?}");
    }
}

#[test]
fn a_hook_that_fails_or_panics_concerns_one_connection() {
    let _expected = logged::expect_error("the socket hook panicked");
    for way in WAYS {
        let calls = AtomicUsize::new(0);
        let listener = Listener::from("127.0.0.1:0").socket_hook(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Err(std::io::Error::other("not you")),
            1 => common::app::panic_quietly(),
            _ => Ok(()),
        });
        let server = Running::start(way, Server::builder(), listener);
        let url = format!("ws://{}/", server.handle.local_addr());
        assert!(connect(&url).is_err() && connect(&url).is_err());
        drop(expect_echo(&url));
        eventually("it has left", || server.handle.connections() == 0);
    }
}

#[test]
fn a_listener_hook_that_fails_is_an_error_of_the_start() {
    let fails = |_: &TcpListener| Err(std::io::Error::other("not here"));
    let error = common::chain(&Server::bind(Listener::from("127.0.0.1:0").listener_hook(fails)).expect_err("it fails"));
    assert_eq!(error, "127.0.0.1:0 can not be bound: not here");
    let given = Listener::from(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let error = common::chain(&Server::bind(given.listener_hook(fails)).expect_err("it fails"));
    assert_eq!(error, "the TCP listener that was given can not be used: not here");
}

#[test]
fn servers_share_a_port_when_their_hooks_say_so() {
    let share = |addr: &str| {
        Listener::from(addr).listener_hook(|socket| SockRef::from(socket).set_reuse_port(true)).backlog(64)
    };
    let first = Running::start(Way::Serve(1), Server::builder(), share("127.0.0.1:0"));
    let addr = first.handle.local_addr();
    let second = Running::start(Way::Serve(2), Server::builder(), share(&addr.to_string()));
    assert_eq!(second.handle.local_addr(), addr);
    let mut clients = Vec::new();
    while first.handle.connections() == 0 || second.handle.connections() == 0 {
        assert!(clients.len() < 100, "the system shares the connections out");
        clients.push(expect_echo(&format!("ws://{addr}/")));
    }
}

#[test]
fn a_backlog_limits_the_connections_that_wait() {
    let dir = TestDir::new();
    let path: PathBuf = dir.join("app.sock");
    let event_loop = Server::builder().bind_inline(Listener::unix(&path).backlog(1)).expect("a server");
    // Nobody accepts. Linux keeps one more than the backlog.
    let _waiting: Vec<_> = (0..if cfg!(target_os = "linux") { 2 } else { 1 })
        .map(|_| UnixStream::connect(&path).expect("there is room"))
        .collect();
    if cfg!(target_os = "linux") {
        let builder = Client::builder().connect_timeout(Duration::from_millis(50));
        let error = builder.connect(&url(&path)).expect_err("the queue is full");
        assert_eq!(error.to_string(), format!("the attempt to connect took too long (unix:{})", path.display()));
    }
    drop(event_loop);
}
