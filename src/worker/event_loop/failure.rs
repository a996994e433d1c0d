//! The end of a worker that fails: a fault of the library, for whatever the application does is contained.

use crate::protocol::contain::contained;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::{CloseCounts, Worker};
use crate::worker::thread::enter_worker;

impl<D: Delivery> Worker<D> {
    /// Runs the loop on this thread until the worker has shut down, or has failed.
    pub(crate) fn run(mut self) -> CloseCounts {
        enter_worker();
        match contained(|| self.run_until_shutdown()) {
            Ok(ended) => ended,
            Err(panic) => self.fail(&panic),
        }
    }

    /// Ends the worker after a panic. Its state may be inconsistent, so each step is contained: senders that wait
    /// return, each connection is closed with 1011, and the application is told.
    #[cold]
    fn fail(mut self, panic: &str) -> CloseCounts {
        let (index, open) = (self.context.handle.index, self.slots.len());
        let _ = contained(|| log::error!("worker {index} failed, and closes its {open} connections: {panic}"));
        self.context.inbox.retire();
        self.shutdown = Some(self.now);
        self.for_each_key(|worker, key| {
            if let Some(slot) = worker.slots.get_mut(key) {
                slot.conn.closed_to_sends();
            }
        });
        self.for_each_key(|worker, key| {
            let _ = contained(|| worker.drive(key, |driver, _| driver.worker_failed()));
            let _ = contained(|| worker.remove(key));
        });
        let _ = contained(|| self.delivery.end_iteration());
        let drained = self.drain.as_ref().map(|drain| drain.report);
        let ended = CloseCounts { failed: 1, drained, ..self.ended };
        let _ = contained(|| drop(self));
        ended
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Closes the connection with 1011, without the application's answers.
    fn worker_failed(&mut self) {
        self.panicked();
        self.close_seen();
        self.flush(&[]);
    }
}
