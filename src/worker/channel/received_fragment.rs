//! A large fragment on its way to the application, in the receive buffer that it was received into.

use std::ops::Range;

use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::protocol::message::MessageRef;
use crate::transport::spare_inputs::KeptInput;
use crate::worker::connection::active::{ActiveConn, InputUse};

/// A fragment of a binary message, in the receive buffer that it was received into.
#[derive(Debug)]
pub(crate) struct ReceivedFragment {
    /// `None` until the worker has decoded it.
    input: Option<KeptInput>,
    /// Where it is in the buffer.
    range: Range<usize>,
    offset: u64,
    is_last: bool,
}

impl ReceivedFragment {
    /// Asks for the receive buffer that the fragment is in; `None` if it is text, which would have to be validated again.
    pub(crate) fn of(fragment: FragmentRef<'_>, active: &mut ActiveConn<'_>) -> Option<ReceivedFragment> {
        let MessageRef::Binary(bytes) = fragment.payload else { return None };
        let range = active.context.output.position_in_input(bytes)?;
        active.state.input = InputUse::Wanted;
        Some(ReceivedFragment { input: None, range, offset: fragment.offset, is_last: fragment.is_last })
    }

    /// Keeps the buffer.
    pub(crate) fn keep(&mut self, input: KeptInput) {
        self.input = Some(input);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.input.as_ref().and_then(|input| input.as_slice().get(self.range.clone())).unwrap_or_default()
    }

    pub(crate) fn lend(&self) -> FragmentRef<'_> {
        let payload = MessageRef::Binary(self.as_bytes());
        FragmentRef { payload, offset: self.offset, is_last: self.is_last }
    }

    /// A copy without what it does not need of the buffer, which goes back to the worker.
    pub(crate) fn into_owned(self) -> Fragment {
        self.lend().into_owned()
    }
}
