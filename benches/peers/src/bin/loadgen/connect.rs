//! Connections that are opened and dropped, a fixed number at a time.

use std::error::Error;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use peers::handshake::Request;

use crate::Run;
use crate::dial::Dial;
use crate::meter::Meter;
use crate::turns::Traffic;

pub(crate) struct Connect<'a> {
    poll: Poll,
    run: &'a Run,
    request: Rc<Request>,
}

impl<'a> Connect<'a> {
    pub(crate) fn new(run: &'a Run) -> Result<Connect<'a>, Box<dyn Error>> {
        Ok(Connect { poll: Poll::new()?, run, request: Rc::new(Request::new(&run.addr.to_string())) })
    }

    /// Starts a connection, and answers since when.
    fn start(&self, index: usize) -> io::Result<Option<(Dial, Instant)>> {
        let dial = Dial::start(&self.poll, Token(index), index, self.run.addr, &self.request)?;
        Ok(Some((dial, Instant::now())))
    }
}

impl Traffic for Connect<'_> {
    fn turn(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
        meter.begin();
        let mut under_way = self.run.scenario.connections;
        let mut dials = (0..under_way).map(|index| self.start(index)).collect::<Result<Vec<_>, _>>()?;
        let mut events = Events::with_capacity(1024);
        loop {
            let goes_on = meter.goes_on(Instant::now())?;
            if !goes_on && under_way == 0 {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Token(index) = event.token();
                let Some((dial, started)) = &mut dials[index] else { continue };
                if dial.advance()? {
                    meter.record(*started, Instant::now(), 1);
                    dials[index] = None;
                    if goes_on {
                        dials[index] = self.start(index)?;
                    } else {
                        under_way -= 1;
                    }
                }
            }
        }
    }
}
