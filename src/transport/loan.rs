//! Memory that is lent to an output while messages in it are delivered, so that a handler that sends them back needs no
//! copy. A loan ends when its guard is dropped. Messages that are sent later are copied.

use std::ops::{Deref, DerefMut};

use crate::protocol::message::{Assembled, MessageRef};
use crate::transport::buffer::Input;
use crate::transport::output::Output;

/// Has an output to which memory is lent.
pub(crate) trait HoldsOutput {
    fn output(&mut self) -> &mut Output;
}

/// Lends the input that is decoded. Payloads that are sent from it stay in it until the flush, which must be called
/// with the same input.
pub(crate) struct InputLoan<'a, O: HoldsOutput>(&'a mut O);

impl<'a, O: HoldsOutput> InputLoan<'a, O> {
    #[inline(always)]
    pub(crate) fn new(owner: &'a mut O, input: &Input) -> InputLoan<'a, O> {
        owner.output().begin_input_loan(input);
        InputLoan(owner)
    }
}

impl<O: HoldsOutput> Drop for InputLoan<'_, O> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.output().end_input_loan();
    }
}

impl<O: HoldsOutput> Deref for InputLoan<'_, O> {
    type Target = O;

    #[inline(always)]
    fn deref(&self) -> &O {
        self.0
    }
}

impl<O: HoldsOutput> DerefMut for InputLoan<'_, O> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut O {
        self.0
    }
}

/// Lends a message that has a buffer of its own. When the loan ends, the output keeps the buffer if something is sent
/// from it.
pub(crate) struct AssembledLoan<'a, O: HoldsOutput> {
    owner: &'a mut O,
    message: Assembled,
}

impl<'a, O: HoldsOutput> AssembledLoan<'a, O> {
    pub(crate) fn new(owner: &'a mut O, message: Assembled) -> AssembledLoan<'a, O> {
        owner.output().begin_assembled_loan(&message);
        AssembledLoan { owner, message }
    }

    /// The owner of the output, and the message.
    pub(crate) fn parts(&mut self) -> (&mut O, MessageRef<'_>) {
        (self.owner, self.message.as_message())
    }
}

impl<O: HoldsOutput> Drop for AssembledLoan<'_, O> {
    fn drop(&mut self) {
        self.owner.output().end_assembled_loan(std::mem::take(&mut self.message));
    }
}
