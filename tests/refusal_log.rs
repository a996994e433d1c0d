//! What the server logs about refused origins and hosts. The logger is the process's, so that this test is alone here.

mod common;

use std::sync::Mutex;
use std::time::Instant;

use common::http::{UpgradeRequest, send_request};
use common::servers::echo_server;
use threadbare::{OriginPolicy, Server};

/// The lines logged at `warn`.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNINGS.lock().expect("no panic").push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn h_04_refused_origins_and_hosts_are_logged_once_a_second_with_both_names() {
    log::set_logger(&Logger).expect("the first logger");
    log::set_max_level(log::LevelFilter::Warn);
    let origins = OriginPolicy::List(vec!["https://*.good.example".into()]);
    let server = echo_server(Server::builder().hosts(["localhost", "*.inner"]).origins(origins));
    let start = Instant::now();
    let from = |origin: &str, host: &str| {
        let upgrade = UpgradeRequest::new().replace("Host", host).add("Origin", origin);
        send_request(server.addr, upgrade.head())
    };
    let response = from("https://good.example", "localhost");
    assert_eq!(response.status, 403);
    assert!(
        response.text().contains("\"https://good.example\" may not connect to \"localhost\""),
        "{}",
        response.text()
    );
    for _ in 0..20 {
        assert_eq!(from("https://good.example", "localhost").status, 403);
        assert_eq!(from("https://a.good.example", "inner").status, 421);
    }
    let warnings = WARNINGS.lock().expect("no panic").clone();
    assert!(
        warnings[0].contains("403: Pages of \"https://good.example\" may not connect to \"localhost\""),
        "{warnings:?}"
    );
    assert!(warnings.len() as u64 <= 1 + start.elapsed().as_secs(), "{warnings:?}");
}
