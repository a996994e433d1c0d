//! Builds the measured programs with Cargo.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

/// Programs by name.
pub type Built = HashMap<String, PathBuf>;

/// Returns the Cargo command `name` for a package. The caller adds the other arguments.
#[must_use]
pub fn command(name: &str, package: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([name, "--manifest-path"]).arg(package.join("Cargo.toml")).stderr(Stdio::inherit());
    command
}

/// Builds `what` of a package for speed, and returns the programs that were built. If Cargo fails, some are missing.
///
/// # Errors
///
/// Cargo cannot be run, or its output is not understood.
pub fn build(package: &Path, what: &[&str]) -> Result<Built, Box<dyn Error>> {
    build_with_profile(package, "release", what)
}

/// As [`build`], with the profile of this name.
///
/// # Errors
///
/// As [`build`].
pub fn build_with_profile(package: &Path, profile: &str, what: &[&str]) -> Result<Built, Box<dyn Error>> {
    eprintln!("building {} in {}", what.join(" "), package.display());
    let mut command = command("build", package);
    let output = command
        .args(["--profile", profile, "--quiet", "--message-format=json-render-diagnostics"])
        .args(what)
        .output()?;
    if !output.status.success() {
        eprintln!("NOT ALL COULD BE BUILT: cargo build {}: {}", what.join(" "), output.status);
    }
    let mut built = Built::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let artifact: Artifact = serde_json::from_slice(line)?;
        if let (Some(target), Some(executable)) = (artifact.target, artifact.executable) {
            built.insert(target.name, executable);
        }
    }
    Ok(built)
}

/// The relevant fields of a message from Cargo.
#[derive(Deserialize)]
struct Artifact {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}
