//! Small echoes of other connections of the same worker, without and with a message that is under way.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use peers::background::Background;
use peers::tls::Stream;
use peers::{median, wire};

use crate::case::{Case, Direction, Transport, Way};
use crate::measured::{Measured, Programs};
use crate::message::{KEY, large, text_frame};
use crate::options::Options;
use crate::transfer::Transfer;

/// The other connections.
pub(crate) const OTHERS: usize = 100;

/// What each of them sends, and receives.
pub(crate) const TEXT: &str = "0123456789abcdefghijklmnopqrstuv";

/// The other end writes and reads about so much of the message in a turn, so that it delays the echoes little itself.
const TURN: usize = 16 << 10;

/// How long a slice without the message is.
const SLICE: Duration = Duration::from_millis(500);

/// How often both alternate in a round.
const SLICES: usize = 5;

/// Room for the largest record of TLS.
const BUFFER: usize = 20 << 10;

/// Latencies up to this are told apart, in nanoseconds.
const MAX_LATENCY: u64 = 10_000_000_000;

/// When a connection sends its next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// When its last one has come back.
    Closed,
    /// So many messages are due each second over all, whether or not the server keeps up. A latency counts from then.
    Open { rate: u32 },
}

pub(crate) const LOADS: [Load; 2] = [Load::Closed, Load::Open { rate: 5_000 }];

/// The servers and directions that are measured.
pub(crate) fn cases() -> Vec<Case> {
    let ways = [
        (Way::Handler, Direction::In),
        (Way::Handler, Direction::Out),
        (Way::Handler, Direction::Echo),
        (Way::Events, Direction::In),
        (Way::Events, Direction::Out),
    ];
    let all = |transport| ways.map(|(way, direction)| Case { way, transport, direction });
    Transport::ALL.into_iter().flat_map(all).collect()
}

/// The latencies of one round, in microseconds.
#[derive(Clone)]
pub(crate) struct Figures {
    /// Of each slice.
    pub(crate) without: Vec<f64>,
    pub(crate) with: Vec<f64>,
    /// What was received or sent of the message in a second, in MB; the median.
    pub(crate) rate: f64,
    pub(crate) background: f64,
}

impl Figures {
    pub(crate) fn ratio(&self) -> f64 {
        median(&self.with) / median(&self.without)
    }
}

pub(crate) fn measure(
    programs: &Programs,
    case: Case,
    load: Load,
    options: &Options,
) -> Result<Figures, Box<dyn Error>> {
    let measured = programs.start(case, options.beside_size, options)?;
    let mut others = Others::open(&measured, case.transport, load)?;
    let Measured { started, stream, .. } = measured;
    let mut transfer = Transfer::new(stream, case, &large(case.transport, options.beside_size))?;
    let background = Background::sample(&[started.id(), std::process::id()])?;
    let (mut without, mut with, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    // The first slice is a warm-up.
    others.run(|elapsed| Ok(elapsed < SLICE))?;
    for _ in 0..SLICES {
        without.push(others.run(|elapsed| Ok(elapsed < SLICE))?);
        transfer.begin()?;
        let mut taken = Duration::ZERO;
        let mut last_progress = Duration::ZERO;
        with.push(others.run(|elapsed| {
            taken = elapsed;
            if transfer.step(TURN)? {
                last_progress = elapsed;
            } else if elapsed - last_progress > wire::PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(!transfer.is_done())
        })?);
        rates.push(options.beside_size as f64 / 1e6 / taken.as_secs_f64());
    }
    Ok(Figures { without, with, rate: median(&rates), background: background.share_since()? })
}

struct Others {
    poll: Poll,
    all: Vec<Other>,
    load: Load,
    /// The frame of a message, and that of its echo.
    frame: Vec<u8>,
    echo: Vec<u8>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

struct Other {
    stream: Stream,
    /// When the messages that have not come back were sent, or were due.
    sent: VecDeque<Instant>,
    /// The beginning of an echo.
    partial: Vec<u8>,
}

impl Others {
    fn open(measured: &Measured, transport: Transport, load: Load) -> Result<Others, Box<dyn Error>> {
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for index in 0..OTHERS {
            let mut stream = measured.connect(transport)?;
            stream.register(poll.registry(), Token(index))?;
            all.push(Other { stream, sent: VecDeque::new(), partial: Vec::new() });
        }
        let (frame, echo) = (text_frame(TEXT, Some(KEY)), text_frame(TEXT, None));
        Ok(Others { poll, all, load, frame, echo, buffer: vec![0; BUFFER], scratch: Vec::new() })
    }

    /// Sends and receives as long as `turn` says so, which is told the time. Returns the 99th percentile.
    fn run(&mut self, mut turn: impl FnMut(Duration) -> io::Result<bool>) -> Result<f64, Box<dyn Error>> {
        let mut latencies = Histogram::<u64>::new_with_max(MAX_LATENCY, 3)?;
        let mut events = Events::with_capacity(OTHERS);
        let begun = Instant::now();
        let (mut sent, mut outstanding, mut is_running) = (0_u32, 0_usize, true);
        if self.load == Load::Closed {
            for index in 0..OTHERS {
                self.send(index, Instant::now())?;
            }
            outstanding = OTHERS;
        }
        let mut last_reply = begun;
        while is_running || outstanding > 0 {
            let now = Instant::now();
            is_running = is_running && turn(now - begun)?;
            if let Load::Open { rate } = self.load
                && is_running
                && now >= begun + Duration::from_secs(1) * sent / rate
            {
                self.send(sent as usize % OTHERS, begun + Duration::from_secs(1) * sent / rate)?;
                sent += 1;
                outstanding += 1;
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Token(index) = event.token();
                let complete = self.receive(index)?;
                let now = Instant::now();
                for _ in 0..complete {
                    let sent = self.all[index].sent.pop_front().ok_or("an echo of nothing")?;
                    latencies.saturating_record((now - sent).as_nanos() as u64);
                    last_reply = now;
                    outstanding -= 1;
                    if is_running && self.load == Load::Closed {
                        self.send(index, now)?;
                        outstanding += 1;
                    }
                }
            }
            if outstanding > 0 && last_reply.elapsed() > wire::PATIENCE {
                return Err(format!("no echo for {:?}", wire::PATIENCE).into());
            }
        }
        Ok(latencies.value_at_quantile(0.99) as f64 / 1e3)
    }

    fn send(&mut self, index: usize, since: Instant) -> io::Result<()> {
        let other = &mut self.all[index];
        other.sent.push_back(since);
        match other.stream.write(&self.frame, &mut self.scratch)? {
            size if size == self.frame.len() && other.stream.flush()? => Ok(()),
            _ => Err(io::Error::other("a socket has no room for a small message")),
        }
    }

    /// Returns how many echoes were completed, each of which was compared.
    fn receive(&mut self, index: usize) -> io::Result<usize> {
        let Others { all, buffer, echo, .. } = self;
        let Other { stream, partial, .. } = &mut all[index];
        while stream.read(buffer, |bytes| {
            partial.extend_from_slice(bytes);
            Ok(())
        })? {}
        let mut echoes = partial.chunks_exact(echo.len());
        if echoes.any(|got| got != echo) {
            return Err(io::Error::other("an echo differs from its message"));
        }
        let complete = partial.len() / echo.len();
        partial.drain(..complete * echo.len());
        Ok(complete)
    }
}
