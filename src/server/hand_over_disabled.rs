//! In place of `hand_over` in a build without it: no server is handed over.

use std::any::Any;
use std::sync::Arc;

use crate::config::Config;
use crate::error::BuildError;
use crate::server::builder::ServerBuilder;
use crate::server::control::ServerHandle;
use crate::server::listener::Listeners;
use crate::server::listener::open::OpenListener;

/// There is none.
pub(in crate::server) enum Succession {}

impl Succession {
    pub(in crate::server) fn begin(_: &ServerBuilder) -> Result<Option<Succession>, BuildError> {
        Ok(None)
    }

    pub(in crate::server) fn has_predecessor(&self) -> bool {
        match *self {}
    }

    pub(in crate::server) fn take_end(&mut self) -> Option<Arc<dyn Any + Send + Sync>> {
        match *self {}
    }

    pub(in crate::server) fn listeners(&mut self, _: Listeners) -> Result<Vec<OpenListener>, BuildError> {
        match *self {}
    }

    pub(in crate::server) fn complete(self, _: &ServerHandle, _: &Config) -> Result<(), BuildError> {
        match self {}
    }
}
