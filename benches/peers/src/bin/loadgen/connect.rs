//! Connections that are opened and dropped, a fixed number at a time.

use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use peers::handshake::Request;
use peers::report::Outcome;

use crate::Run;
use crate::dial::Dial;
use crate::meter::Meter;

pub(crate) fn run(run: &Run) -> Result<Outcome, Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let request = Rc::new(Request::new(&run.addr.to_string()));
    let start = |poll: &Poll, index| -> Result<_, Box<dyn Error>> {
        Ok((Dial::start(poll, Token(index), index, run.addr, &request)?, Instant::now()))
    };
    let mut dials = (0..run.scenario.connections).map(|index| start(&poll, index)).collect::<Result<Vec<_>, _>>()?;
    let mut events = Events::with_capacity(1024);
    let mut meter = Meter::new(run)?;
    while meter.goes_on(Instant::now())? {
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let Token(index) = event.token();
            let (dial, started) = &mut dials[index];
            if dial.advance()? {
                meter.record(*started, Instant::now(), 1);
                dials[index] = start(&poll, index)?;
            }
        }
    }
    Ok(Outcome::Load(meter.finish()?))
}
