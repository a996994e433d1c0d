//! A measured program: started, connected to, and looked at while the message is under way.

use std::error::Error;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use peer_common::large::Large;
use peers::background::Background;
use peers::handshake::Request;
use peers::started::Started;
use peers::tls::{self, Stream};
use peers::wire::{self, Mode};
use peers::{cargo, process};
use rustls::ClientConfig;

use crate::case::{Case, Transport};
use crate::message;
use crate::options::Options;
use crate::transfer::Transfer;

/// The programs, and what they read.
pub(crate) struct Programs {
    raise_priority: PathBuf,
    threadbare: PathBuf,
    this: PathBuf,
    /// Where the certificate and the pieces are.
    directory: PathBuf,
}

impl Programs {
    pub(crate) fn build() -> Result<Programs, Box<dyn Error>> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        // One after the other, so that neither has features of the library that only the other needs.
        let mut built = cargo::build(here, &["--package", "peers", "--bin", "raise_priority"])?;
        built.extend(cargo::build(here, &["--package", "peer-threadbare"])?);
        let mut program = |name: &str| built.remove(name).ok_or_else(|| format!("{name} was not built"));
        let (raise_priority, threadbare) = (program("raise_priority")?, program("peer-threadbare")?);
        let directory = raise_priority.with_file_name("stream-files");
        tls::write_certificate(&directory)?;
        for transport in Transport::ALL {
            std::fs::write(piece_in(&directory, transport), &message::large(transport, 0).piece)?;
        }
        Ok(Programs { raise_priority, threadbare, this: std::env::current_exe()?, directory })
    }

    /// Starts the program of a case on its core, and connects it with this one, whose socket does not block.
    pub(crate) fn start(&self, case: Case, size: u64, options: &Options) -> Result<Measured, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let mut command = Command::new(&self.raise_priority);
        match case.way.is_bare() {
            true => command.arg(&self.this).arg("--bare"),
            false => command.arg(&self.threadbare),
        };
        command.arg(case.way.name()).arg(addr.to_string());
        command.args(["--direction", case.direction.name(), "--transport", case.transport.name()]);
        command.arg("--piece").arg(piece_in(&self.directory, case.transport));
        command.args(["--size", &size.to_string()]).arg("--certificate").arg(&self.directory);
        let tls = case.transport == Transport::Tls;
        let stream = if case.way.is_server() {
            // The port was free a moment ago.
            drop(listener);
            let mut started = start_on(options, &mut command)?;
            let stream = started.connect(addr)?;
            (started, connect(stream, &addr.to_string(), case.transport)?)
        } else {
            let mut started = start_on(options, &mut command)?;
            let stream = started.accept(&listener)?;
            let file = |name: &str| self.directory.join(name);
            let config = tls.then(|| tls::server_config(&file("chain.pem"), &file("key.pem"))).transpose()?;
            let (stream, deflate) = wire::accept(stream, config.as_ref(), Mode::NonBlocking)?;
            if deflate != (case.transport == Transport::Deflate) {
                return Err(format!("{case}: permessage-deflate: {deflate}").into());
            }
            (started, stream)
        };
        let (started, stream) = stream;
        Ok(Measured { started, addr: addr.to_string(), stream })
    }
}

fn piece_in(directory: &Path, transport: Transport) -> PathBuf {
    directory.join(format!("piece-{}", transport.name()))
}

/// A process inherits the core of the thread that starts it.
fn start_on(options: &Options, command: &mut Command) -> Result<Started, Box<dyn Error>> {
    process::pin(&[options.core])?;
    let started = Started::new(command);
    process::pin(&[options.other_core])?;
    Ok(started?)
}

fn connect(stream: std::net::TcpStream, host: &str, transport: Transport) -> Result<Stream, Box<dyn Error>> {
    let config: Option<Arc<ClientConfig>> = (transport == Transport::Tls).then(tls::client_config).transpose()?;
    let request = match transport {
        Transport::Deflate => Request::with_deflate(host),
        Transport::Plain | Transport::Tls => Request::new(host),
    };
    Ok(wire::connect(stream, config.as_ref(), &request, Mode::NonBlocking)?)
}

pub(crate) struct Measured {
    pub(crate) started: Started,
    addr: String,
    pub(crate) stream: Stream,
}

impl Measured {
    /// Opens another connection to a server, without compression.
    pub(crate) fn connect(&self, transport: Transport) -> Result<Stream, Box<dyn Error>> {
        let transport = if transport == Transport::Tls { transport } else { Transport::Plain };
        connect(std::net::TcpStream::connect(&self.addr)?, &self.addr, transport)
    }
}

/// What a program took for the message.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// CPU time for each byte of the message, in nanoseconds.
    pub(crate) nanos_per_byte: f64,
    /// The most resident memory, above that at rest.
    pub(crate) memory: u64,
    pub(crate) elapsed: Duration,
    /// The share of a core that other programs used.
    pub(crate) background: f64,
}

pub(crate) fn measure(programs: &Programs, case: Case, options: &Options) -> Result<Cost, Box<dyn Error>> {
    let message: Large = message::large(case.transport, options.size);
    let Measured { started, stream, .. } = programs.start(case, options.size, options)?;
    let mut transfer = Transfer::new(stream, case, &message)?;
    let process = started.process;
    process.reset_peak()?;
    let at_rest = process.memory()?.resident;
    let background = Background::sample(&[started.id(), std::process::id()])?;
    let (before, begun) = (process.cost()?.cpu, Instant::now());
    transfer.run()?;
    let (cpu, elapsed) = (process.cost()?.cpu - before, begun.elapsed());
    Ok(Cost {
        nanos_per_byte: cpu.as_nanos() as f64 / options.size as f64,
        memory: process.memory()?.peak.saturating_sub(at_rest),
        elapsed,
        background: background.share_since()?,
    })
}
