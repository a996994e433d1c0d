//! The example `client`, as a process.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use threadbare::{CloseCode, MessageRef, Server, Socket};

fn start(server: &Server) -> Child {
    // Beside the directory of the tests.
    let tests = std::env::current_exe().expect("a path");
    let target = tests.ancestors().nth(2).expect("a directory");
    let program: PathBuf = target.join("examples").join("client");
    Command::new(&program)
        .arg(format!("ws://{}/", server.local_addr()))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo build --examples` builds it", program.display()))
}

fn server() -> Server {
    let answer = |socket: &mut Socket<'_>, message: MessageRef<'_>| {
        if message.as_text() == Some("close") {
            socket.close(CloseCode(4001), "as requested").expect("it is open");
        } else {
            socket.send(message);
        }
    };
    Server::builder().workers(1).serve("127.0.0.1:0", move |_| answer).expect("a server")
}

fn text(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("UTF-8");
    text
}

#[test]
fn the_client_ends_with_the_reason_when_the_server_closes_and_nobody_types() {
    let server = server();
    let mut client = start(&server);
    // The input stays open.
    let mut input = client.stdin.take().expect("a pipe");
    input.write_all(b"close\n").expect("written");
    assert!(!client.wait().expect("it was started").success());
    let errors = text(client.stderr.take().expect("a pipe"));
    assert!(errors.contains("4001") && errors.contains("as requested"), "{errors}");
    drop(input);
}

#[test]
fn a_line_that_is_not_utf8_is_reported_and_those_after_it_are_sent() {
    let server = server();
    let mut client = start(&server);
    let mut input = client.stdin.take().expect("a pipe");
    input.write_all(b"a\r\n\xff\nb\n").expect("written");
    let mut output = client.stdout.take().expect("a pipe");
    let mut lines = [0; 4];
    output.read_exact(&mut lines).expect("two answers");
    assert_eq!(&lines, b"a\nb\n");
    drop(input);
    assert!(client.wait().expect("it was started").success());
    assert_eq!(text(client.stderr.take().expect("a pipe")), "line 2 is not UTF-8, and was not sent\n");
}
