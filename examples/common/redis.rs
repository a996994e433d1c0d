//! The flag `--redis URL`: servers that are joined over Redis.

use std::ffi::OsString;

#[cfg(feature = "redis")]
use lexopt::ValueExt;
#[cfg(feature = "redis")]
use threadbare::Redis;
use threadbare::ServerBuilder;

/// The value of the flag.
#[derive(Debug, Default)]
pub struct Joined {
    #[cfg(feature = "redis")]
    redis: Option<Redis>,
}

impl Joined {
    /// Takes the value of `--redis`.
    ///
    /// # Errors
    ///
    /// It is no URL of Redis.
    #[cfg(feature = "redis")]
    pub fn set(&mut self, url: OsString) -> Result<(), lexopt::Error> {
        self.redis = Some(Redis::new(&url.string()?).map_err(|error| format!("--redis: {error}"))?);
        Ok(())
    }

    /// Refuses the value of `--redis`.
    ///
    /// # Errors
    ///
    /// This build has no bridge.
    #[cfg(not(feature = "redis"))]
    pub fn set(&mut self, _url: OsString) -> Result<(), lexopt::Error> {
        Err("--redis: build with --features redis".into())
    }

    /// Has the server share its topics with the others at this Redis that have the same prefix, if there is the flag.
    #[cfg(feature = "redis")]
    pub fn apply(self, builder: ServerBuilder, prefix: &str) -> ServerBuilder {
        match self.redis {
            Some(redis) => builder.bridge(redis.prefix(prefix)),
            None => builder,
        }
    }

    /// Changes nothing: this build has no bridge.
    #[cfg(not(feature = "redis"))]
    pub fn apply(self, builder: ServerBuilder, _prefix: &str) -> ServerBuilder {
        builder
    }
}
