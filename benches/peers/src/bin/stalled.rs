//! Measures what one subscriber of a topic that reads nothing costs the others.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lexopt::prelude::*;
use mio::{Events, Poll, Token};
use peers::background::Background;
use peers::handshake::Request;
use peers::machine::Machine;
use peers::process::{Memory, pin, raise_descriptor_limit};
use peers::started::Started;
use peers::tls::Stream;
use peers::wire::{self, Mode, PATIENCE};
use peers::{cargo, median, program};
use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::protocol::mask;

const USAGE: &str = "\
Measures what one subscriber that reads nothing costs the other subscribers of a topic.

Usage: stalled [OPTIONS]

  --short          200 subscribers and 8 MB, in some seconds
  --subscribers N  those who read (default 10000)
  --published MB   what is published in a round, with the one and without it (default 100)
  --size BYTES     the size of a message (default 16384)
  --rounds N       how often everything is measured (default 2)
  --core N         the core of the server (default 0)
  --other-core N   the core of the subscribers (default 1)
  --out DIR        where to write the results (default benches/results)
  --name NAME      the name of the results (default stalled)
  --help           print this text
";

const HERE: &str = env!("CARGO_MANIFEST_DIR");

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A message begins with its number in so many digits.
const DIGITS: usize = 8;

/// The messages of a round have so many parts, each with a percentile of its own. In the first ones the kernel takes what the
/// one subscriber does not read.
const PARTS: usize = 10;
const FIRST_PARTS: usize = 3;

const BUFFER: usize = 256 << 10;

/// Latencies up to this are told apart, in nanoseconds.
const MAX_LATENCY: u64 = 60_000_000_000;

struct Options {
    subscribers: usize,
    published: usize,
    size: usize,
    rounds: usize,
    core: usize,
    other_core: usize,
    out: PathBuf,
    name: String,
}

/// What was measured in a round without the one that reads nothing, or with it.
struct Figures {
    /// Of each part but the first ones, in microseconds.
    p99: Vec<f64>,
    at_rest: Memory,
    after: Memory,
    /// How many messages the one that read nothing has missed, when it read again.
    missed: Option<u64>,
}

/// Both, and the share of a core that other programs used.
struct Round {
    without: Figures,
    with: Figures,
    background: f64,
}

fn main() -> ExitCode {
    program::run(USAGE, parse, measure)
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        subscribers: 10_000,
        published: 100,
        size: 16 << 10,
        rounds: 2,
        core: 0,
        other_core: 1,
        out: PathBuf::from(HERE).join("../results"),
        name: "stalled".to_owned(),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("short") => {
                (options.subscribers, options.published, options.rounds) = (200, 24, 1);
                options.name = "short-stalled".to_owned();
            }
            Long("subscribers") => options.subscribers = parser.value()?.parse()?,
            Long("published") => options.published = parser.value()?.parse()?,
            Long("size") => options.size = parser.value()?.parse()?,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("core") => options.core = parser.value()?.parse()?,
            Long("other-core") => options.other_core = parser.value()?.parse()?,
            Long("out") => options.out = parser.value()?.into(),
            Long("name") => options.name = parser.value()?.string()?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if options.subscribers == 0 || options.rounds == 0 || options.size < DIGITS {
        return Err(format!("--subscribers and --rounds: at least 1; --size: at least {DIGITS}").into());
    }
    if options.messages() == 0 {
        return Err(format!("--published: at least {PARTS} messages").into());
    }
    Ok(Some(options))
}

impl Options {
    /// How many messages are published in a part.
    fn messages(&self) -> u64 {
        (self.published * 1_000_000 / self.size / PARTS) as u64
    }
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err("only a release build measures: cargo run --release".into());
    }
    let (limit, needed) = (raise_descriptor_limit()?, options.subscribers as u64 + 64);
    if limit < needed {
        return Err(format!("{needed} descriptors are needed, and {limit} are allowed").into());
    }
    let here = Path::new(HERE);
    let mut built = cargo::build(here, &["--package", "peers", "--bin", "raise_priority"])?;
    built.extend(cargo::build(here, &["--package", "peer-threadbare"])?);
    let program = |name: &str| built.get(name).cloned().ok_or_else(|| format!("{name} was not built"));
    let (raise_priority, server) = (program("raise_priority")?, program("peer-threadbare")?);
    let machine = Machine::look();
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let run = |stalls| -> Result<(Figures, f64), Box<dyn Error>> {
            let mut subscribers = Subscribers::start(options, &raise_priority, &server, stalls)?;
            let background = Background::sample(&[subscribers.server.id(), std::process::id()])?;
            for part in 0..PARTS {
                let p99 = subscribers.run_part(options.messages())?;
                subscribers.p99.extend((part >= FIRST_PARTS).then_some(p99));
            }
            let background = background.share_since()?;
            Ok((subscribers.finish()?, background))
        };
        // The one that is first changes.
        let ((without, background), (with, other)) = if number % 2 == 1 {
            (run(false)?, run(true)?)
        } else {
            let with = run(true)?;
            (run(false)?, with)
        };
        let round = Round { without, with, background: background.max(other) };
        eprintln!("round {number}/{}  p99 x {:.2}", options.rounds, round.ratio());
        rounds.push(round);
    }
    let table = table(&machine, options, &rounds);
    println!("{table}");
    fs::create_dir_all(&options.out)?;
    fs::write(options.out.join(format!("{}.md", options.name)), table)?;
    println!("written to {}", options.out.display());
    Ok(())
}

impl Round {
    fn ratio(&self) -> f64 {
        median(&self.with.p99) / median(&self.without.p99)
    }
}

/// A server, its subscribers who read, and perhaps one who does not.
struct Subscribers {
    server: Started,
    at_rest: Memory,
    poll: Poll,
    /// The first one publishes.
    all: Vec<Subscriber>,
    stalled: Option<Stream>,
    expected: Expected,
    /// How many messages were published.
    published: u64,
    p99: Vec<f64>,
    buffer: Vec<u8>,
}

struct Subscriber {
    stream: Stream,
    /// How many bytes of messages it has received.
    received: u64,
}

impl Subscribers {
    fn start(
        options: &Options,
        raise_priority: &Path,
        program: &Path,
        stalls: bool,
    ) -> Result<Subscribers, Box<dyn Error>> {
        // A port that was free a moment ago.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(raise_priority);
        command.arg(program).arg("topic").arg(addr.to_string());
        // A process inherits the core of the thread that starts it.
        pin(&[options.core])?;
        let server = Started::new(&mut command);
        pin(&[options.other_core])?;
        let mut server = server?;
        let request = Request::new(&addr.to_string());
        let mut connect = || wire::connect(server.connect(addr)?, None, &request, Mode::NonBlocking);
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for index in 0..options.subscribers {
            let mut stream = connect()?;
            stream.register(poll.registry(), Token(index))?;
            all.push(Subscriber { stream, received: 0 });
        }
        let stalled = stalls.then(connect).transpose()?;
        let at_rest = server.process.memory()?;
        let (expected, buffer) = (Expected::new(options.size), vec![0; BUFFER]);
        Ok(Subscribers { server, at_rest, poll, all, stalled, expected, published: 0, p99: Vec::new(), buffer })
    }

    /// Publishes so many messages, each when all who read have received the last one. Returns the 99th percentile.
    fn run_part(&mut self, messages: u64) -> Result<f64, Box<dyn Error>> {
        let mut latencies = Histogram::<u64>::new_with_max(MAX_LATENCY, 3)?;
        let mut events = Events::with_capacity(1024);
        for _ in 0..messages {
            let mut unsent = self.expected.publish(self.published);
            let published = Instant::now();
            let mut remaining = self.all.len();
            let mut last_progress = published;
            while remaining > 0 {
                if !unsent.is_empty() {
                    let written = self.all[0].stream.write(&unsent, &mut Vec::new())?;
                    unsent.drain(..written);
                }
                self.poll.poll(&mut events, Some(Duration::ZERO))?;
                for event in &events {
                    let Token(index) = event.token();
                    let complete = self.receive(index)?;
                    if complete > 0 {
                        last_progress = Instant::now();
                        latencies.saturating_record((last_progress - published).as_nanos() as u64);
                        remaining = remaining.checked_sub(complete).ok_or("more messages than subscribers")?;
                    }
                }
                if last_progress.elapsed() > PATIENCE {
                    return Err(format!("{remaining} subscribers have not received message {}", self.published).into());
                }
            }
            self.published += 1;
        }
        Ok(latencies.value_at_quantile(0.99) as f64 / 1e3)
    }

    /// Reads until the socket is empty. Returns how many messages were completed.
    fn receive(&mut self, index: usize) -> io::Result<usize> {
        let Subscribers { all, expected, buffer, .. } = self;
        let Subscriber { stream, received } = &mut all[index];
        let before = *received / expected.frame_len();
        while stream.read(buffer, |bytes| {
            expected.check(*received, bytes)?;
            *received += bytes.len() as u64;
            Ok(())
        })? {}
        Ok((*received / expected.frame_len() - before) as usize)
    }

    fn finish(mut self) -> Result<Figures, Box<dyn Error>> {
        let after = self.server.process.memory()?;
        let missed = match self.stalled.take() {
            Some(mut stalled) => Some(self.read_again(&mut stalled)?),
            None => None,
        };
        Ok(Figures { p99: self.p99, at_rest: self.at_rest, after, missed })
    }

    /// Has the one that read nothing read until it has the newest message. Returns how many it has missed, which must be some:
    /// otherwise it was not stalled.
    fn read_again(&mut self, stalled: &mut Stream) -> Result<u64, Box<dyn Error>> {
        let (begun, mut frames, mut count, mut newest) = (Instant::now(), Vec::new(), 0, None);
        while newest != Some(self.published - 1) {
            stalled.read(&mut self.buffer, |bytes| {
                frames.extend_from_slice(bytes);
                Ok(())
            })?;
            let mut whole = frames.chunks_exact(self.expected.frame_len() as usize);
            for frame in whole.by_ref() {
                let number = self.expected.number(frame)?;
                if newest.is_some_and(|newest| number <= newest) {
                    return Err(format!("message {number} comes after {newest:?}").into());
                }
                newest = Some(number);
                count += 1;
            }
            frames = whole.remainder().to_vec();
            if begun.elapsed() > PATIENCE {
                return Err(format!("the one that stalled has {newest:?} of {} messages", self.published).into());
            }
        }
        match self.published - count {
            0 => Err("the one that reads nothing has missed nothing: publish more".into()),
            missed => Ok(missed),
        }
    }
}

/// The frame of a message: a header, the number in digits, and dots.
struct Expected {
    header: Vec<u8>,
    size: usize,
}

impl Expected {
    fn new(size: usize) -> Expected {
        let mut header = Vec::new();
        FrameHeader::new(Opcode::Text, size as u64, None).encode(&mut header);
        Expected { header, size }
    }

    fn frame_len(&self) -> u64 {
        (self.header.len() + self.size) as u64
    }

    /// What every frame begins with.
    fn start(&self, number: u64) -> Vec<u8> {
        [&self.header[..], format!("{number:0DIGITS$}").as_bytes()].concat()
    }

    /// The publisher's frame.
    fn publish(&self, number: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        FrameHeader::new(Opcode::Text, self.size as u64, Some(KEY)).encode(&mut frame);
        let start = frame.len();
        let _ = write!(Text(&mut frame), "{number:0DIGITS$}");
        frame.resize(start + self.size, b'.');
        mask::apply(&mut frame[start..], KEY);
        frame
    }

    /// Checks that the next bytes of a subscriber continue its messages without a gap: the header and number of each.
    fn check(&self, mut received: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (number, within) = (received / self.frame_len(), (received % self.frame_len()) as usize);
            let now = &bytes[..bytes.len().min(self.frame_len() as usize - within)];
            let start = self.start(number);
            let wanted = start.get(within..).unwrap_or_default();
            let compared = wanted.len().min(now.len());
            if now[..compared] != wanted[..compared] {
                return Err(io::Error::other(format!("another message than {number} came")));
            }
            received += now.len() as u64;
            bytes = &bytes[now.len()..];
        }
        Ok(())
    }

    /// The number of a whole frame.
    fn number(&self, frame: &[u8]) -> io::Result<u64> {
        let digits = frame.strip_prefix(&self.header[..]).and_then(|payload| payload.get(..DIGITS));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        digits.ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

/// Formats into bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn table(machine: &Machine, options: &Options, rounds: &[Round]) -> String {
    let mut text = machine.heading(&[program::command_line("stalled")]);
    let _ = writeln!(
        text,
        "A server with one worker publishes messages of {} B to {} subscribers of a topic, one message when all have the last;\n\
         {} MB in a round. *With*: one more subscriber reads nothing. The policy is `Slow::Skip` with the default buffer of 1 MiB,\n\
         and no write timeout, so that the one stays. Each has a server of its own, one after the other. The figure is the 99th\n\
         percentile of the time from when a message is published until a subscriber has it, in microseconds: the median of the\n\
         {} last tenths of the messages, as the kernel's buffers take the first ones from the one that does not read. Each subscriber's messages are checked to be without a gap by their numbers. At the end the one reads again,\n\
         until it has the newest message: what it missed is in the last column. The memory is the anonymous memory of the\n\
         server, at rest and after the last message; the buffers of the kernel are not in it.\n\n\
         | round | p99 without | with | ratio | memory at rest without | after | at rest with | after | missed | background |\n\
         |---|---|---|---|---|---|---|---|---|---|",
        options.size,
        options.subscribers,
        options.published,
        PARTS - FIRST_PARTS
    );
    for (number, round) in rounds.iter().enumerate() {
        let Round { without, with, background } = round;
        let kilobytes = |memory: &Memory| memory.anonymous / 1000;
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.2} | {} kB | {} kB | {} kB | {} kB | {} of {} | {:.1} % |",
            number + 1,
            median(&without.p99),
            median(&with.p99),
            round.ratio(),
            kilobytes(&without.at_rest),
            kilobytes(&without.after),
            kilobytes(&with.at_rest),
            kilobytes(&with.after),
            with.missed.unwrap_or_default(),
            options.messages() * PARTS as u64,
            background * 100.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Expected, KEY, mask};

    #[test]
    fn a_gap_between_messages_is_noticed() {
        let expected = Expected::new(200);
        let server = |number| {
            let mut frame = expected.publish(number);
            let payload = frame.split_off(frame.len() - 200);
            let mut payload = payload;
            mask::apply(&mut payload, KEY);
            [&expected.header[..], &payload].concat()
        };
        let (first, second) = (server(0), server(1));
        assert_eq!(expected.number(&second).unwrap(), 1);
        let both = [first, second].concat();
        for split in 0..both.len() {
            let (start, end) = both.split_at(split);
            assert!(expected.check(0, start).is_ok() && expected.check(split as u64, end).is_ok(), "{split}");
        }
        assert!(expected.check(0, &server(1)).is_err());
        assert!(expected.check(expected.frame_len(), &server(2)).is_err());
    }
}
