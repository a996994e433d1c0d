//! Programs whose only thread runs the event loop of a server or a client. There is no test harness, because that has a
//! thread of its own.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use common::{Client, DEADLINE, Frame, close, text};
use threadbare::{ClientLoop, CloseCode, Config, EventRef, Server};

/// The environment variables that make this program the one under test.
const IS_SERVER: &str = "THREADBARE_TEST_IS_SERVER";
const IS_CLIENT_OF: &str = "THREADBARE_TEST_IS_CLIENT_OF";

/// What the server prints before its address.
const LISTENING_ON: &str = "listening on ";

fn main() {
    if std::env::var_os(IS_SERVER).is_some() {
        serve();
    } else if let Ok(url) = std::env::var(IS_CLIENT_OF) {
        connect(&url);
    } else if cfg!(target_os = "linux") {
        a_program_with_an_event_loop_has_one_thread();
        a_program_with_a_client_loop_has_one_thread();
        println!("2 tests passed");
    } else {
        println!("NOT CHECKED: the number of threads is read from Linux's /proc");
    }
}

/// Echoes on one connection, and shuts down when it is closed.
fn serve() {
    let mut event_loop = Server::builder().bind_inline("127.0.0.1:0").expect("a server");
    println!("{LISTENING_ON}{}", event_loop.local_addr());
    let handle = event_loop.handle();
    let on_event = |event: EventRef<'_>| match event {
        EventRef::Message(peer, message) => peer.send(message).expect("the connection is open"),
        EventRef::Close(..) => drop(handle.shutdown(DEADLINE)),
        _ => {}
    };
    event_loop.run(on_event).expect("no error");
}

/// Echoes until the server closes the connection.
fn connect(url: &str) {
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    let builder = threadbare::Client::builder().no_proxy();
    builder.connect_inline(url, &mut client_loop).expect("a connection");
    let on_event = |event: EventRef<'_>| {
        if let EventRef::Message(peer, message) = event {
            peer.send(message).expect("the connection is open");
        }
    };
    client_loop.run(on_event).expect("no error");
}

fn start(variable: &str, value: &str) -> Child {
    let program = std::env::current_exe().expect("a path");
    Command::new(program).env(variable, value).stdout(Stdio::piped()).spawn().expect("starts")
}

fn threads(process: &Child) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", process.id())).expect("the process runs").count()
}

fn a_program_with_an_event_loop_has_one_thread() {
    let mut process = start(IS_SERVER, "1");
    let lines = BufReader::new(process.stdout.as_mut().expect("a pipe")).lines();
    let addr = lines.map_while(Result::ok).find_map(|line| line.split_once(LISTENING_ON)?.1.parse().ok());
    let mut client = Client::open(addr.expect("the server prints its address"));
    client.send(&text("hello"));
    assert_eq!(client.expect_frame(), Frame::text("hello"));
    assert_eq!(threads(&process), 1);
    client.send(&close(1000));
    client.expect_close(1000);
    assert!(process.wait().expect("the process was started").success());
}

fn a_program_with_a_client_loop_has_one_thread() {
    let mut event_loop = Server::builder().bind_inline("127.0.0.1:0").expect("a server");
    let mut process = start(IS_CLIENT_OF, &format!("ws://{}", event_loop.local_addr()));
    let mut counted = None;
    let mut closed = false;
    while !closed {
        let on_event = |event: EventRef<'_>| match event {
            EventRef::Open(peer, _) => peer.send("hello").expect("the connection is open"),
            EventRef::Message(peer, _) => {
                counted = Some(threads(&process));
                peer.close(CloseCode::NORMAL_CLOSURE, "").expect("the connection is open");
            }
            _ => closed = true,
        };
        event_loop.poll(DEADLINE, on_event).expect("a poll");
    }
    assert_eq!(counted, Some(1));
    event_loop.shutdown(DEADLINE);
    assert!(process.wait().expect("the process was started").success());
}
