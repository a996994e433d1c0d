//! The servers that the tests of established connections run with.

use threadbare::{Config, Server};
use threadbare_tls_tests::Authority;

use crate::common::app::{App, echo};
use crate::common::servers::Mode;
use crate::common::{eventually, logged};

/// Runs with an application that echoes, in each mode, with one worker and with two.
pub(crate) fn with_each(authority: &Authority, config: &Config, run: impl Fn(&App)) {
    // The end of `App::finish` is short for a busy machine.
    let _late = logged::expect_error("a server thread did not end").or_nothing();
    let tls = authority.server();
    for mode in Mode::ALL {
        for workers in [1, 2] {
            let builder = Server::builder().workers(workers).tls(tls.clone()).config(config.clone());
            let app = App::start(mode, builder, echo);
            run(&app);
            let handle = app.handle();
            eventually("all have ended", || handle.connections() == 0 && handle.memory() == 0);
            app.finish();
        }
    }
}
