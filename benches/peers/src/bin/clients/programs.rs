//! The programs of the clients.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

use peers::{cargo, tls};

use crate::options::Options;
use crate::server::Transport;

/// Python's websockets.
pub(crate) const PYTHON: &str = "python-websockets";

pub(crate) struct Programs {
    plain: Option<PathBuf>,
    /// With compression and TLS.
    full: Option<PathBuf>,
    pub(crate) raise_priority: PathBuf,
    pub(crate) python: PathBuf,
    pub(crate) feed: PathBuf,
    /// Where the certificate is.
    pub(crate) certificate: PathBuf,
}

impl Programs {
    pub(crate) fn build(options: &Options) -> Result<Programs, Box<dyn Error>> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| here.join("target"), PathBuf::from);
        // In another directory, so that neither build replaces the other.
        let full = target.join("clients-full").display().to_string();
        let build = |more: &[&str]| -> Result<PathBuf, Box<dyn Error>> {
            let package = [&["--package", "peer-clients"], more].concat();
            Ok(cargo::build(here, &package)?.remove("peer-clients").ok_or("peer-clients was not built")?)
        };
        let needs = |is_plain: bool| {
            options.scenarios.iter().any(|scenario| (scenario.transport == Transport::Plain) == is_plain)
        };
        let plain = needs(true).then(|| build(&[])).transpose()?;
        let features = ["--features", "deflate,tls", "--target-dir", &full];
        let full = needs(false).then(|| build(&features)).transpose()?;
        let mut built = cargo::build(here, &["--package", "peers", "--bin", "raise_priority"])?;
        let raise_priority = built.remove("raise_priority").ok_or("raise_priority was not built")?;
        let certificate = raise_priority.with_file_name("clients-certificate");
        tls::write_certificate(&certificate)?;
        let (python, feed) = (options.python.clone(), here.join("clients/feed.py"));
        Ok(Programs { plain, full, raise_priority, python, feed, certificate })
    }

    /// The program of the clients in Rust; empty if no scenario needs it.
    pub(crate) fn client(&self, transport: Transport) -> &Path {
        let program = if transport == Transport::Plain { &self.plain } else { &self.full };
        program.as_deref().unwrap_or(Path::new(""))
    }
}
