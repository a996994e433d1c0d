//! The application's end of a channel of events, and the event loop that the application runs itself.

pub(crate) mod events;
pub(crate) mod inline;
