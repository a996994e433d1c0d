//! What the server logs about refused origins and hosts. This is counted for the process, so that the test is alone here.

mod common;

use std::time::Instant;

use common::http::{UpgradeRequest, send_request};
use common::logged::expect_error;
use common::servers::echo_server;
use threadbare::{OriginPolicy, Server};

#[test]
fn h_04_refused_origins_and_hosts_are_logged_once_a_second_with_both_names() {
    let logged = expect_error("handshake refused");
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
    let warnings = logged.seen();
    assert!(
        warnings[0].contains("403: Pages of \"https://good.example\" may not connect to \"localhost\""),
        "{warnings:?}"
    );
    assert!(warnings.len() as u64 <= 1 + start.elapsed().as_secs(), "{warnings:?}");
}
