//! Opens connections and drops them, a fixed number at a time.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use peers::handshake::Request;

use crate::Run;
use crate::dial::{Dial, Dialer};
use crate::meter::Meter;
use crate::slices::Traffic;

pub(crate) struct Connect<'a> {
    poll: Poll,
    run: &'a Run,
    dialer: Dialer,
}

impl<'a> Connect<'a> {
    pub(crate) fn new(run: &'a Run) -> Result<Connect<'a>, Box<dyn Error>> {
        let dialer = Dialer::new(run, Request::new(&run.target.host()))?;
        Ok(Connect { poll: Poll::new()?, run, dialer })
    }

    /// Starts a connection. Returns it with the time of the start.
    fn start(&self, index: usize) -> io::Result<Option<(Dial, Instant)>> {
        let dial = Dial::start(&self.poll, Token(index), index, &self.dialer)?;
        Ok(Some((dial, Instant::now())))
    }
}

impl Traffic for Connect<'_> {
    fn run_slice(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
        meter.start_slice();
        let mut outstanding = self.run.scenario.connections;
        let mut dials = (0..outstanding).map(|index| self.start(index)).collect::<Result<Vec<_>, _>>()?;
        let mut events = Events::with_capacity(1024);
        loop {
            let is_running = meter.is_running(Instant::now())?;
            if !is_running && outstanding == 0 {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Token(index) = event.token();
                let Some((dial, started)) = &mut dials[index] else { continue };
                if dial.advance()? {
                    meter.record(*started, Instant::now(), 1);
                    dials[index] = None;
                    if is_running {
                        dials[index] = self.start(index)?;
                    } else {
                        outstanding -= 1;
                    }
                }
            }
        }
    }
}
