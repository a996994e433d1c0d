//! No write of the library raises SIGPIPE. Its default action ends a process that is not written in Rust, whose runtime
//! ignores the signal.
#![cfg(unix)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use common::app::App;
use common::servers::Mode;
use common::sockets::{TestDir, address, url};
use common::{DEADLINE, accept, close, text};
use threadbare::{Config, Event, MessageRef, Server};

/// The environment variable that makes a test run as its child.
const IS_CHILD: &str = "THREADBARE_TEST_SIGPIPE";

/// More than the buffers of two sockets take.
const LARGE: usize = 12 << 20;

/// Runs the test named `test` again in a child process, where `act` is called with the default action of SIGPIPE.
/// Returns how that process ended.
fn with_default_action(test: &str, act: impl FnOnce()) -> Option<ExitStatus> {
    if std::env::var_os(IS_CHILD).is_some() {
        sigpipe::reset();
        act();
        return None;
    }
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(IS_CHILD, "1");
    Some(child.status().expect("it runs"))
}

/// Sends a close frame and FIN, and then resets the connection. Waits with the reset until the other end knows of the
/// close frame. A write of the other end fails with EPIPE then: it has received FIN before the reset.
fn leave(mut stream: TcpStream, close_frame: &[u8], knows: impl FnOnce()) {
    stream.write_all(close_frame).expect("written");
    stream.shutdown(Shutdown::Write).expect("connected");
    knows();
    // With received data that was not read, this resets the connection.
    drop(stream);
}

#[test]
fn the_child_process_would_end_by_the_signal() {
    let status = with_default_action("the_child_process_would_end_by_the_signal", || {
        let (mut one, other) = UnixStream::pair().expect("a pair");
        drop(other);
        let _ = one.write_vectored(&[std::io::IoSlice::new(b"x")]);
    });
    if let Some(status) = status {
        assert_eq!(status.signal(), Some(13), "{status}");
    }
}

#[test]
fn r_03_no_write_of_a_server_raises_sigpipe() {
    let status = with_default_action("r_03_no_write_of_a_server_raises_sigpipe", || {
        for (mode, workers) in [(Mode::Handler, 1), (Mode::Handler, 2), (Mode::Channel, 1), (Mode::Channel, 2)] {
            // The close frame is read although the answer waits.
            let config = Config::default().max_write_buffer_size(2 * LARGE);
            let app = App::start(mode, Server::builder().workers(workers).config(config), |connection, _| {
                connection.send(MessageRef::Binary(&vec![7; LARGE]));
            });
            for _ in 0..5 {
                let mut client = common::Client::open(app.addr);
                client.send(&text("go"));
                let mut stream = client.stream;
                stream.read_exact(&mut [0]).expect("the beginning of the answer");
                leave(stream, &close(1000), || assert_eq!(app.closed().code.0, 1000));
            }
            common::eventually("every connection has ended", || app.handle().connections() == 0);
        }
    });
    if let Some(status) = status {
        assert!(status.success(), "{status}");
    }
}

/// A peer that closes a Unix socket has every later write to it fail at once.
#[test]
fn r_03_no_write_to_a_unix_socket_raises_sigpipe() {
    let status = with_default_action("r_03_no_write_to_a_unix_socket_raises_sigpipe", || {
        let dir = TestDir::new();
        for workers in [1, 2] {
            let path = dir.join(&workers.to_string());
            let server = Server::builder().workers(workers).bind(address(&path)).expect("a server");
            for size in [1, LARGE] {
                let mut peer = UnixStream::connect(&path).expect("connects");
                peer.write_all(common::request("/", "").as_bytes()).expect("sent");
                peer.read_exact(&mut [0; 12]).expect("a response");
                let Ok(Event::Open(connection, _)) = server.recv_timeout(DEADLINE) else { panic!("an open event") };
                drop(peer);
                while connection.send(vec![7; size]).is_ok() {}
                assert!(matches!(server.recv_timeout(DEADLINE), Ok(Event::Close(..))));
            }
            // The other way round: a client whose server is gone.
            let client = threadbare::Client::connect(&url(&path)).expect("connects");
            let Ok(Event::Open(connection, _)) = server.recv_timeout(DEADLINE) else { panic!("an open event") };
            connection.abort();
            while client.send("x").is_ok() {}
        }
    });
    if let Some(status) = status {
        assert!(status.success(), "{status}");
    }
}

#[test]
fn r_03_no_write_of_a_client_raises_sigpipe() {
    let status = with_default_action("r_03_no_write_of_a_client_raises_sigpipe", || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("an address"));
        for _ in 0..5 {
            let server = std::thread::spawn({
                let listener = listener.try_clone().expect("a listener");
                move || accept(&listener, &[])
            });
            let client = threadbare::Client::builder().no_proxy().connect(&url).expect("connects");
            let mut stream = server.join().expect("a connection");
            client.send(vec![7_u8; LARGE]).expect("open");
            stream.read_exact(&mut [0]).expect("the beginning of the message");
            leave(stream, &[0x88, 2, 3, 232], || {
                assert!(matches!(client.recv(), Ok(None)), "{:?}", client.close_reason());
            });
            // Its worker writes before it finds that the connection has ended, and ends then.
            drop(client);
            common::wait_for_end_of_threads("the client");
        }
    });
    if let Some(status) = status {
        assert!(status.success(), "{status}");
    }
}
