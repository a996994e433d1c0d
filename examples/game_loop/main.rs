//! A game at 60 steps a second on one thread, which is also the server: between two steps it polls the event loop.
//!
//! ```sh
//! cargo run --release --example game_loop
//! ```
//!
//! Then open `http://127.0.0.1:8080/` in two windows. Without a browser: `cargo run --example client --
//! ws://127.0.0.1:8080` shows the states, and moves a player with a line such as `move 1 0`.
//!
//! Each message has the complete state, so a slow player can miss states and never needs an old one. The server queues
//! at most one state for each player. If the player acknowledges the states that it has drawn, as the page does, the
//! states in the network are limited too.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::page;
use threadbare::{EventRef, OriginPolicy, Peer, PeerId, Prepared, Server};

const USAGE: &str = "\
A game at 60 steps a second, on the one thread that is the server as well.

Usage: game_loop [ADDR]

  ADDR    where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --help  this text

Open http://ADDR/ in a browser to play, or send these messages:

  move DX DY  go into a direction, each from -1 to 1, until the next of these
  ack STEP    the state of this step was drawn; a player who sends this is not
              sent more than a quarter of a second ahead
";

/// The time of a step.
const STEP: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// A player that acknowledges states may be at most 15 steps behind. Larger delays what a slow player sees; smaller
/// makes a player with a long round trip miss states.
const MAX_UNACKNOWLEDGED: u64 = 15;

/// The size of the world.
const WIDTH: f32 = 800.0;
const HEIGHT: f32 = 450.0;

/// How far a player goes in a step.
const SPEED: f32 = 4.0;

fn main() -> ExitCode {
    common::main(USAGE, common::parse_addr, serve)
}

fn serve(addr: String) -> Result<(), Box<dyn Error>> {
    let page = page::serve(include_str!("page.html"), include_str!("page.css"), include_str!("page.js"));
    let mut event_loop = Server::builder().origins(OriginPolicy::Any).http(page).bind_inline(&addr)?;
    common::announce_handle(event_loop.handle())?;

    let mut game = Game::default();
    let mut next_step = Instant::now();
    while !event_loop.is_finished() {
        // The poll begins with writing what the last step sent.
        let left = next_step.saturating_duration_since(Instant::now());
        event_loop.poll(left, |event| game.on_event(event))?;
        let now = Instant::now();
        if now >= next_step {
            game.step();
            game.send_state();
            // After a long pause, for example of a machine that was suspended, the game continues without the missed
            // steps.
            next_step = (next_step + STEP).max(now);
        }
    }
    Ok(())
}

/// The world.
#[derive(Default)]
struct Game {
    step: u64,
    players: BTreeMap<PeerId, Player>,
}

struct Player {
    peer: Peer,
    position: (f32, f32),
    direction: (f32, f32),
    /// The step of the last state that was sent.
    sent: u64,
    /// The step of the last state that the player has drawn, if it says so.
    acknowledged: Option<u64>,
}

impl Game {
    fn on_event(&mut self, event: EventRef<'_>) {
        match event {
            EventRef::Open(peer, _) => {
                // An error means that the player has left already.
                let _ = peer.send(format!(r#"{{"you":"{}","width":{WIDTH},"height":{HEIGHT}}}"#, peer.id()));
                self.players.insert(peer.id(), Player::new(peer.clone()));
            }
            EventRef::Message(peer, message) => {
                if let Some(player) = self.players.get_mut(&peer.id())
                    && let Some(text) = message.as_message().as_text()
                {
                    player.handle_message(text);
                }
            }
            EventRef::Close(peer, reason) => {
                log::info!("{} left: {reason}", peer.addr());
                self.players.remove(&peer.id());
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        self.step += 1;
        self.players.values_mut().for_each(Player::step);
    }

    /// Sends the state to each player with an empty queue. It is encoded once for all of them.
    fn send_state(&mut self) {
        let mut state = format!(r#"{{"step":{},"players":["#, self.step);
        for (index, (id, player)) in self.players.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (x, y) = player.position;
            // Writing to a string does not fail.
            let _ = write!(state, r#"{comma}["{id}",{x:.1},{y:.1}]"#);
        }
        state.push_str("]}");
        let state = Prepared::new(state.as_str());
        for player in self.players.values_mut().filter(|player| player.has_room(self.step)) {
            // An error means that the player has left, and its close event follows.
            if player.peer.send_prepared(&state).is_ok() {
                player.sent = self.step;
            }
        }
    }
}

impl Player {
    fn new(peer: Peer) -> Player {
        Player { peer, position: (WIDTH / 2.0, HEIGHT / 2.0), direction: (0.0, 0.0), sent: 0, acknowledged: None }
    }

    /// Handles a message. An invalid one is ignored.
    fn handle_message(&mut self, text: &str) {
        let mut words = text.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("move"), Some(dx), Some(dy)) => {
                if let (Some(dx), Some(dy)) = (direction(dx), direction(dy)) {
                    self.direction = (dx, dy);
                }
            }
            (Some("ack"), Some(step), None) => {
                if let Ok(step) = step.parse::<u64>() {
                    // A player can not have drawn a state that it was not sent.
                    self.acknowledged = Some(step.min(self.sent));
                }
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        let (dx, dy) = self.direction;
        self.position.0 = (self.position.0 + dx * SPEED).clamp(0.0, WIDTH);
        self.position.1 = (self.position.1 + dy * SPEED).clamp(0.0, HEIGHT);
    }

    /// Whether the player is sent the state of this step. If not, it is sent a newer one later.
    fn has_room(&self, step: u64) -> bool {
        let keeps_up = match self.acknowledged {
            None => true,
            Some(acknowledged) => acknowledged == self.sent || step - acknowledged <= MAX_UNACKNOWLEDGED,
        };
        keeps_up && self.peer.queued_bytes() == 0
    }
}

fn direction(text: &str) -> Option<f32> {
    text.parse().ok().filter(|number: &f32| number.is_finite()).map(|number| number.clamp(-1.0, 1.0))
}
