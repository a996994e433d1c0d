//! Counts that one thread keeps and any thread reads, and the text in which a monitor reads them.

pub(crate) mod count;
pub(crate) mod histogram;
pub(crate) mod openmetrics;
