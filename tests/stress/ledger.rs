//! What both ends of each connection sent and received, and whether that agrees.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use threadbare::{CloseCause, CloseReason};

use crate::board::{fail, lock};
use crate::plan::Plan;

/// The codes with which the thread closes that answers.
pub(crate) const OWN_CODES: RangeInclusive<u16> = 4_000..=4_009;

/// The connections of a round, by the number in their paths.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
}

/// One connection, or those of one client that reconnects.
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) kind: &'static str,
    pub(crate) reconnects: bool,
    /// Messages that the client's library accepted.
    pub(crate) sent: AtomicU64,
    pub(crate) answers_received: AtomicU64,
    pub(crate) pushed_received: AtomicU64,
    pub(crate) end: Mutex<End>,
    pub(crate) instances: Mutex<Vec<Arc<Instance>>>,
}

/// How the client's side ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// The client was dropped, or did not connect.
    #[default]
    Unknown,
    /// In a closing handshake, after the client received all that came.
    Received,
    /// `finish` says that everything was sent.
    Finished,
    Abnormal(String),
}

/// One connection, as the server sees it.
#[derive(Default)]
pub(crate) struct Instance {
    /// The number of the first message; 0 unless the client reconnects.
    pub(crate) first: AtomicU64,
    pub(crate) received: AtomicU64,
    /// Messages that the callbacks, or the thread of the events, sent.
    pub(crate) answered: AtomicU64,
    /// Messages that another thread sent.
    pub(crate) pushed: AtomicU64,
    /// The application has dropped the connection.
    pub(crate) aborted: AtomicBool,
    pub(crate) end: Mutex<Option<CloseReason>>,
}

/// What was checked.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    /// Connections whose messages to the server are complete, and those whose messages to the client are.
    pub(crate) complete: (u64, u64),
}

impl Ledger {
    pub(crate) fn add(&self, id: u64, kind: &'static str, reconnects: bool) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            id,
            kind,
            reconnects,
            sent: AtomicU64::new(0),
            answers_received: AtomicU64::new(0),
            pushed_received: AtomicU64::new(0),
            end: Mutex::default(),
            instances: Mutex::default(),
        });
        lock(&self.entries).insert(id, entry.clone());
        entry
    }

    pub(crate) fn entry(&self, id: u64) -> Arc<Entry> {
        lock(&self.entries).get(&id).unwrap_or_else(|| fail(&format!("nobody opened connection {id}"))).clone()
    }

    /// Checks every connection after the end of all threads.
    pub(crate) fn check(&self, plan: &Plan, totals: &mut Totals) {
        let all_told = plan.receives_at_most.is_none();
        for entry in lock(&self.entries).values() {
            let instances = lock(&entry.instances).clone();
            totals.connections += instances.len() as u64;
            for instance in &instances {
                entry.check_end(instance, all_told);
                totals.messages += instance.received.load(Ordering::SeqCst);
            }
            entry.check_overlap(&instances);
            totals.messages += entry.answers_received.load(Ordering::SeqCst);
            if let [instance] = &instances[..] {
                entry.check_complete(instance, plan, totals);
            }
        }
    }
}

impl Entry {
    /// How many messages both ends have received.
    pub(crate) fn received(&self) -> u64 {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let at_server: u64 = lock(&self.instances).iter().map(|instance| load(&instance.received)).sum();
        at_server + load(&self.answers_received) + load(&self.pushed_received)
    }

    fn check_end(&self, instance: &Instance, all_told: bool) {
        if all_told && lock(&instance.end).is_none() {
            fail(&format!("connection {} of {}: the application was not told the end", self.id, self.kind));
        }
    }

    /// No message came on two connections.
    fn check_overlap(&self, instances: &[Arc<Instance>]) {
        let range = |instance: &Instance| {
            let (first, count) = (instance.first.load(Ordering::SeqCst), instance.received.load(Ordering::SeqCst));
            (first, first + count)
        };
        let mut ranges: Vec<_> = instances.iter().map(|instance| range(instance)).filter(|(a, b)| a < b).collect();
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            fail(&format!("client {} of {}: messages came twice: {pair:?}", self.id, self.kind));
        }
    }

    fn check_complete(&self, instance: &Instance, plan: &Plan, totals: &mut Totals) {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let (sent, received) = (load(&self.sent), load(&instance.received));
        let (answered, answers) = (load(&instance.answered), load(&self.answers_received));
        let (pushed, pushes) = (load(&instance.pushed), load(&self.pushed_received));
        let (end, told) = (lock(&self.end).clone(), lock(&instance.end).clone());
        let wrong = |what: &str| -> ! { fail(&format!("{self}: {what}")) };
        if received > sent || answers > answered || pushes > pushed {
            wrong("more was received than sent");
        }
        // What comes behind an abort is thrown away, though the peer's close frame may have come already.
        if instance.aborted.load(Ordering::SeqCst) {
            return;
        }
        // The close frame follows everything that was accepted before it, whoever closes.
        let closed_by_client = told.as_ref().is_some_and(|reason| reason.cause == CloseCause::Peer);
        if closed_by_client && (!self.reconnects || end == End::Finished) {
            if received != sent {
                wrong("messages to the server were lost");
            }
            totals.complete.0 += 1;
        }
        let ordered = told.as_ref().is_some_and(|reason| matches!(reason.cause, CloseCause::Peer | CloseCause::Local));
        if ordered && end == End::Received && !plan.lossy {
            if answers != answered {
                wrong("answers were lost");
            }
            totals.complete.1 += 1;
        }
    }
}

/// What both ends know of the connection.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        write!(f, "connection {} of {} ({} messages sent, ", self.id, self.kind, load(&self.sent))?;
        write!(f, "{} answers received, ", load(&self.answers_received))?;
        write!(f, "{} of another thread, end: {:?}", load(&self.pushed_received), lock(&self.end))?;
        for instance in &*lock(&self.instances) {
            write!(f, "; at the server {} messages received, ", load(&instance.received))?;
            write!(f, "{} answers sent, {} by another thread, ", load(&instance.answered), load(&instance.pushed))?;
            write!(f, "end: {:?}", lock(&instance.end))?;
        }
        f.write_str(")")
    }
}
