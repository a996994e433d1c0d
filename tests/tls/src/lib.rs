//! What the tests of TLS share: a certificate authority, and peers that do what the library does not.

mod authority;
mod craft;
mod raw;
mod relay;

use std::time::Duration;

pub use authority::{Authority, Certified, TLS12, TLS13, provider};
pub use craft::{Crafted, HANDSHAKE};
pub use raw::{End, Frame, RawClient, RawServer, Side, masked, request, unmasked};
pub use relay::{Cuts, Relay, Tunnel, tunnel};

/// The timeout of every wait. A passing test never waits this long, not even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
