//! Named checks: each prints `ok NAME` or `FAIL NAME why`.

use std::error::Error;
use std::process::ExitCode;

/// Why a check failed.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

pub(crate) struct Report {
    prefix: String,
    failed: bool,
}

impl Report {
    pub(crate) fn new(prefix: String) -> Report {
        Report { prefix, failed: false }
    }

    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<(), Failure>) {
        match check() {
            Ok(()) => println!("ok {}/{name}", self.prefix),
            Err(error) => {
                self.failed = true;
                println!("FAIL {}/{name} {}", self.prefix, error.to_string().replace('\n', " "));
            }
        }
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// As `assert!`, with an error instead of a panic.
pub(crate) fn expect(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(otherwise().into()) }
}
