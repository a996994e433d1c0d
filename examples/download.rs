//! Fetches a file from the example `upload`, however large it is, and checks it.
//!
//! ```sh
//! cargo run --release --example download -- ws://127.0.0.1:8080/files/ID film.mp4
//! ```
//!
//! The server says what there is, and sends it as one message, which is read as it arrives: it takes the memory of a few reads.
//! The name of the file is that of the command line. What the server says is its name is only shown.
//!
//! What has come before the connection is lost stays, under a name with the checksum of the whole. The same command goes on
//! behind it, and the checksum is that of all of it.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use common::tls::Trust;
use indicatif::{ProgressBar, ProgressStyle};
use lexopt::prelude::*;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use threadbare::{Client, Config, Receive};

const USAGE: &str = "\
Fetches a file from the example `upload`, and checks it.

Usage: download URL FILE [OPTIONS]

  URL         such as ws://127.0.0.1:8080/files/0123456789abcdef0123456789abcdef
  FILE        where to write it; what is there is replaced when all of it has come. A part that came before is in
              FILE.CHECKSUM.part, and is gone on with
  --ca FILE   trusts the issuers in this file too, for wss://
  --insecure  accepts any certificate, for tests
              (wss://, --ca and --insecure: built with --features rustls-tls-webpki-roots)
  --help      this text
";

/// The largest description that is read.
const MAX_DESCRIPTION: u64 = 16 << 10;

/// How much may have arrived that is not written yet.
const MAX_WAITING: usize = 1 << 20;

/// How long the server has to answer the close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

struct Options {
    url: String,
    path: PathBuf,
    trust: Trust,
}

/// What the server says that it sends.
struct Description {
    name: String,
    size: u64,
    sha256: String,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, fetch)
}

fn fetch(options: Options) -> Result<(), Box<dyn Error>> {
    let config = Config::default().receive(Receive::Fragments { max_size: None }).max_event_buffer_size(MAX_WAITING);
    let client = options.trust.apply(Client::builder().config(config))?.connect(&options.url)?;
    let description = describe(&client)?;
    // `{:?}` escapes what would do something to a terminal.
    eprintln!("{:?}, {} bytes", description.name, description.size);

    // The file has its name when it is known to be right, so nobody takes a part for the whole. The checksum in the name of the
    // part has it go on with the same file only.
    let mut part = options.path.clone().into_os_string();
    part.push(format!(".{}.part", description.sha256));
    let part = Path::new(&part);
    receive(&client, &description, part)?;
    fs::rename(part, &options.path)?;
    let _ = client.finish(CLOSE_TIMEOUT)?; // everything has come, however the connection ends
    println!("{}", description.sha256);
    Ok(())
}

/// Receives the first message.
fn describe(client: &Client) -> Result<Description, Box<dyn Error>> {
    let Some(reader) = client.recv_reader()? else {
        let why = client.close_reason().map_or_else(String::new, |reason| format!(": {reason}"));
        return Err(format!("the server has closed the connection{why}").into());
    };
    let mut text = String::new();
    reader.take(MAX_DESCRIPTION).read_to_string(&mut text)?;
    let json: Json = serde_json::from_str(&text)?;
    let field = |name: &str| json.get(name).and_then(Json::as_str).map(str::to_owned);
    let size = json.get("size").and_then(Json::as_u64);
    match (field("name"), size, field("sha256")) {
        // It becomes part of a name, so it must be nothing else.
        (Some(name), Some(size), Some(sha256)) if is_sha256(&sha256) => Ok(Description { name, size, sha256 }),
        _ => Err("the server does not say what it sends".into()),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Asks for what is missing of the file, receives it as the second message, and checks all of it.
fn receive(client: &Client, description: &Description, path: &Path) -> Result<(), Box<dyn Error>> {
    let bar = ProgressBar::new(description.size); // on standard error, if that is a terminal
    bar.set_style(ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta}")?);
    let mut hash = Sha256::new();
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    // Up to the size, whatever is there: the rest would be wrong.
    copy(&mut BufReader::new(&file).take(description.size), &mut io::sink(), &mut hash, &bar)?;
    let from = bar.position();
    file.set_len(from)?;
    if from > 0 {
        eprintln!("{from} bytes are there already");
    }
    bar.reset_eta();
    client.send(json!({ "type": "send", "from": from }).to_string())?;
    let reader = client.recv_reader()?.ok_or("the server has closed the connection")?;
    // A byte more than there should be is enough to see that it is wrong.
    let missing = description.size.saturating_sub(from);
    copy(&mut reader.take(missing.saturating_add(1)), &mut file, &mut hash, &bar)?;
    file.sync_all()?;
    bar.finish_and_clear();
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if bar.position() == description.size && sha256 == description.sha256 {
        return Ok(());
    }
    fs::remove_file(path)?; // nothing could make it right
    let received = format!("{} bytes with the checksum {sha256}", bar.position());
    Err(format!("received {received}, wanted {} with {}", description.size, description.sha256).into())
}

/// Copies all of `source`, for which the checksum is continued.
fn copy(source: &mut impl BufRead, file: &mut impl io::Write, hash: &mut Sha256, bar: &ProgressBar) -> io::Result<()> {
    loop {
        let bytes = source.fill_buf()?;
        let length = bytes.len();
        if length == 0 {
            return Ok(());
        }
        file.write_all(bytes)?;
        hash.update(bytes);
        bar.inc(length as u64);
        source.consume(length);
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut url = None;
    let mut path = None;
    let mut trust = Trust::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("ca") => trust.set_ca(parser.value()?),
            Long("insecure") => trust.set_insecure(),
            Short('h') | Long("help") => return Ok(None),
            Value(value) if url.is_none() => url = Some(value.string()?),
            Value(value) if path.is_none() => path = Some(PathBuf::from(value)),
            _ => return Err(arg.unexpected()),
        }
    }
    let (Some(url), Some(path)) = (url, path) else { return Err("a URL and a file are needed".into()) };
    trust.check(&url)?;
    Ok(Some(Options { url, path, trust }))
}
