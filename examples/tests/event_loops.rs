//! The examples with an event loop of their own, as processes.
#![cfg(unix)] // ends them by signals

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use threadbare::{Client, CloseCode, CloseReason, Message};

/// Long enough for a busy machine; nothing waits this long when all is well.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running example.
struct Example {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Example {
    fn start(name: &str, args: &[&str]) -> Example {
        // Beside the directory of the tests.
        let tests = std::env::current_exe().expect("a path");
        let target = tests.ancestors().nth(2).expect("a directory");
        let program: PathBuf = target.join("examples").join(name);
        let mut process = Command::new(&program)
            .arg("127.0.0.1:0")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `cargo build --examples` builds it", program.display()));
        let mut output = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let url = output.find_map(|line| Some(line.ok()?.strip_prefix("listening on ")?.to_owned()));
        Example { process, output, url: url.expect("it prints its address") }
    }

    fn connect(&self) -> Client {
        Client::builder().no_proxy().connect(&self.url).expect("a connection")
    }

    /// Ends it by a signal, and checks that its clients are closed.
    fn stop(mut self, signal: &str, clients: &[Client]) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success());
        for client in clients {
            assert_eq!(end_of(client).code, CloseCode::GOING_AWAY);
        }
        let status = self.process.wait().expect("it was started");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It has ended, unless the test fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(client: &Client) -> String {
    match client.recv_timeout(DEADLINE) {
        Ok(Some(Message::Text(text))) => text,
        other => panic!("{other:?}"),
    }
}

fn end_of(client: &Client) -> CloseReason {
    while let Ok(Some(_)) = client.recv_timeout(DEADLINE) {}
    client.close_reason().expect("it has ended").clone()
}

#[test]
fn echo_inline_sends_back_what_comes() {
    for signal in ["-TERM", "-INT"] {
        let echo = Example::start("echo", &["--inline"]);
        let clients: Vec<_> = (0..5).map(|_| echo.connect()).collect();
        for (number, client) in clients.iter().enumerate() {
            client.send(number.to_string()).expect("it is open");
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(text(client), number.to_string());
        }
        echo.stop(signal, &clients);
    }
}

/// The number after a name in a state of the game.
fn number(state: &str, name: &str) -> u64 {
    let behind = state.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{state}")).1;
    behind.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

fn step_of(state: &str) -> u64 {
    number(state, "step")
}

/// Where a player is.
fn position(state: &str, id: &str) -> (f32, f32) {
    let behind = state.split_once(&format!("[\"{id}\",")).unwrap_or_else(|| panic!("{state}")).1;
    let (x, y) = behind.split_once(']').and_then(|(both, _)| both.split_once(',')).expect("two numbers");
    (x.parse().expect("a number"), y.parse().expect("a number"))
}

/// A player, and its name.
fn join(game: &Example) -> (Client, String) {
    let player = game.connect();
    let greeting = text(&player);
    let name = greeting.split('"').nth(3).unwrap_or_else(|| panic!("{greeting}"));
    (player, name.to_owned())
}

#[test]
fn game_loop_sends_each_state_to_every_player() {
    let game = Example::start("game_loop", &[]);
    let (one, name) = join(&game);
    let (two, other) = join(&game);
    assert_ne!(name, other);
    one.send("move 1 -0.5").expect("it is open");
    one.send("move nowhere").expect("it is open");
    let mut steps = Vec::new();
    let start = (400.0, 225.0);
    loop {
        let state = text(&two);
        steps.push(step_of(&state));
        let (x, y) = position(&state, &name);
        assert_eq!(position(&state, &other), start);
        if x > start.0 + 100.0 {
            assert!(y < start.1 - 40.0, "{y}");
            break;
        }
    }
    assert!(steps.is_sorted_by(|one, two| one < two), "{steps:?}");
    game.stop("-TERM", &[one, two]);
}

/// A slow player is never sent the states that it missed: the next state that it is sent is the newest.
#[test]
fn game_loop_queues_no_states_for_a_player_who_is_behind() {
    let game = Example::start("game_loop", &[]);
    let (slow, _) = join(&game);
    let (quick, _) = join(&game);
    slow.send(format!("ack {}", step_of(&text(&slow)))).expect("it is open");
    let acknowledged = step_of(&text(&quick));
    // Two seconds of the game.
    let mut newest = acknowledged;
    while newest < acknowledged + 120 {
        newest = step_of(&text(&quick));
    }
    let mut steps = Vec::new();
    while let Ok(Some(Message::Text(state))) = slow.try_recv() {
        steps.push(step_of(&state));
    }
    // Those that were on the way as it said that it acknowledges states, and a quarter of a second.
    let last = *steps.last().expect("it was sent states");
    assert!(last + 60 < newest, "{last} of {newest}");
    slow.send(format!("ack {last}")).expect("it is open");
    assert!(step_of(&text(&slow)) >= newest, "the newest");
    game.stop("-INT", &[slow, quick]);
}

#[test]
fn game_loop_serves_its_page() {
    use std::io::Read;
    let game = Example::start("game_loop", &[]);
    let addr = game.url.strip_prefix("ws://").expect("a URL").to_owned();
    for (path, words) in [("/", "<canvas"), ("/page.js", "requestAnimationFrame"), ("/page.css", "canvas")] {
        let mut stream = std::net::TcpStream::connect(&addr).expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("written");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        assert!(response.starts_with("HTTP/1.1 200 ") && response.contains(words), "{path}: {response}");
    }
    game.stop("-TERM", &[]);
}

#[test]
fn own_loop_serves_its_clients_beside_its_input_and_a_timer() {
    let mut own = Example::start("own_loop", &[]);
    let client = own.connect();
    let mut input = own.process.stdin.take().expect("a pipe");
    let mut lines = |wanted: &str| {
        let found = own.output.by_ref().map_while(Result::ok).find(|line| line.ends_with(wanted));
        found.unwrap_or_else(|| panic!("it never printed {wanted:?}"))
    };
    lines("joined");
    client.send("from a client").expect("it is open");
    lines(": from a client");
    // In parts, and more than it reads at once.
    let many: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    input.write_all(b"from the ").expect("it reads");
    input.write_all(b"terminal\n").expect("it reads");
    input.write_all(many.as_bytes()).expect("it reads");
    let (mut received, mut ticks) = (Vec::new(), 0);
    while received.len() < 2001 || ticks < 2 {
        match text(&client) {
            tick if tick.ends_with(" connections") => {
                assert_eq!(tick, "1 connections");
                ticks += 1;
            }
            line => received.push(line),
        }
    }
    assert_eq!(received[0], "from the terminal");
    assert!(received[1..].iter().enumerate().all(|(number, line)| *line == format!("line {number}")));
    // The end of its input is not the server's.
    drop(input);
    client.send("still here").expect("it is open");
    lines(": still here");
    own.stop("-TERM", &[client]);
}
