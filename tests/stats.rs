//! What a server, and a pool of clients, counted: it equals what the test did.

use crate::common;

use std::time::Duration;

use common::app::{App, echo};
use common::http::{UpgradeRequest, send_request};
use common::servers::{Echo, Mode, echo_server, worker_count};
use common::{Client, DEADLINE, binary, close, eventually, text};
use threadbare::{ClientPool, CloseCode, Config, MessageRef, OriginPolicy, Response, Server, Socket};

#[test]
fn counters_equal_what_clients_did() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut clients: Vec<Client> = (0..5).map(|_| Client::open(app.addr)).collect();
        for client in &mut clients {
            for size in [0, 5, 300, 70_000] {
                client.send(&binary(&vec![7; size]));
                assert_eq!(client.expect_frame().payload.len(), size);
            }
        }
        for (index, client) in clients.iter_mut().enumerate() {
            match index {
                0..3 => {
                    let code = if index == 2 { 3123 } else { 1000 };
                    client.send(&close(code));
                    client.expect_close(code);
                }
                3 => client.send(&[0xff; 8]), // a protocol error
                _ => {}
            }
        }
        clients.pop().expect("a fifth").reset();
        clients[3].read_to_end();
        drop(clients);
        let handle = app.handle();
        eventually("all have ended", || handle.stats().traffic.closed_in_all() == 5);
        eventually("and are removed", || handle.connections() == 0);
        eventually("their memory is given back", || handle.memory() == 0);
        let stats = handle.stats();
        let traffic = &stats.traffic;
        assert_eq!((stats.connections, stats.memory), (0, 0), "{mode:?}");
        assert_eq!((stats.handshakes.accepted, stats.handshakes.upgraded, traffic.opened), (5, 5, 5));
        assert_eq!((traffic.messages_received, traffic.messages_sent), (20, 20));
        let payload = 5 * (5 + 300 + 70_000);
        assert!((payload..payload + 1_000).contains(&traffic.bytes_received), "{}", traffic.bytes_received);
        assert!((payload..payload + 1_000).contains(&traffic.bytes_sent), "{}", traffic.bytes_sent);
        assert_eq!((traffic.queued_bytes, traffic.dropped, traffic.refused), (0, 0, 0));
        let closed = [1000, 3000, 1002, 1006, 1001].map(|code| traffic.closed(CloseCode(code)));
        assert_eq!(closed, [2, 1, 1, 1, 0]);
        assert_eq!(traffic.closed(CloseCode(3999)), 1, "with the others of its range");
        assert!(traffic.iterations > 0 && traffic.iteration_time.count() == traffic.iterations, "{traffic:?}");
        app.finish();
    }
}

#[test]
fn the_callback_of_one_read_in_64_is_measured_with_handlers() {
    let server = echo_server(Server::builder());
    let mut client = Client::open(server.addr);
    for _ in 0..640 {
        client.send(&text("x"));
        client.expect_frame();
    }
    // All on one worker.
    eventually("the last iteration has ended", || server.handle.stats().traffic.messages_received == 640);
    assert_eq!(server.handle.stats().traffic.callback_time.count(), 10);
}

#[test]
fn responses_are_counted_by_status() {
    let origins = OriginPolicy::List(vec!["https://good.example".into()]);
    let builder = Server::builder().origins(origins).http(|_| Response::new(200).text("hello"));
    let server = echo_server(builder);
    let bad = UpgradeRequest::new().add("Origin", "https://bad.example");
    assert_eq!(send_request(server.addr, bad.head()).status, 403);
    assert_eq!(send_request(server.addr, "nonsense\r\n\r\n").status, 400);
    for _ in 0..3 {
        let plain = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(send_request(server.addr, plain).status, 200);
    }
    drop(Client::tcp(server.addr));
    eventually("the client that said nothing is counted", || server.handle.stats().handshakes.unanswered == 1);
    let handshakes = server.handle.stats().handshakes;
    assert_eq!(handshakes.statuses().collect::<Vec<_>>(), [(200, 3), (400, 1), (403, 1)]);
    assert_eq!((handshakes.accepted, handshakes.upgraded, handshakes.responses(404)), (6, 0, 0));
}

#[test]
fn output_that_waits_is_shown_and_timed() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(worker_count()), echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let message = vec![1; 300_000];
        let handle = app.handle();
        eventually("the bytes that wait are shown", || {
            let _ = peer.try_send(&message);
            handle.stats().traffic.queued_bytes > 0
        });
        eventually("a full queue refuses", || {
            let _ = peer.try_send(&message);
            handle.stats().traffic.refused > 0
        });
        assert_eq!(handle.stats().traffic.queue_time.count(), 0);
        while handle.stats().traffic.queued_bytes > 0 {
            client.read();
        }
        eventually("the wait is timed", || handle.stats().traffic.queue_time.count() == 1);
        client.reset();
        app.finish();
    }
}

#[test]
fn round_trips_of_pings_are_timed() {
    let config = Config::default().ping_interval(Duration::from_millis(50));
    let server = Server::builder().config(config).serve("127.0.0.1:0", |_| Echo).expect("a server");
    let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr())).expect("connects");
    eventually("a pong came", || server.stats().traffic.round_trip_time.count() > 0);
    assert!(server.stats().traffic.round_trip_time.quantile(1.0) < DEADLINE);
    drop(client);
}

#[test]
fn peers_lists_the_connections_of_all_workers() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(3).subprotocols(["chat"]), echo);
        let handle = app.handle();
        assert!(handle.peers(DEADLINE).is_empty());
        let mut clients: Vec<Client> =
            (0..7).map(|_| Client::open_with(app.addr, "/", "Sec-WebSocket-Protocol: chat\r\n")).collect();
        let mut opened: Vec<_> = (0..7).map(|_| app.opened().id()).collect();
        clients[0].send(&text("hello"));
        clients[0].expect_frame();
        let mut peers = handle.peers(DEADLINE);
        peers.sort_by_key(|peer| peer.id);
        opened.sort();
        assert_eq!(peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), opened, "{mode:?}");
        assert!(peers.iter().all(|peer| peer.is_open && peer.subprotocol.as_deref() == Some("chat")));
        assert!(peers.iter().all(|peer| peer.age < DEADLINE && peer.addr.ip().is_some_and(|ip| ip.is_loopback())));
        assert_eq!(peers.iter().map(|peer| peer.stats.messages_received).sum::<u64>(), 1);
        app.finish();
        assert!(handle.peers(DEADLINE).is_empty(), "the server has ended");
    }
}

/// In a callback nothing can be waited for.
#[test]
fn a_callback_gets_no_list() {
    let (sender, lists) = crossbeam_channel::bounded(1);
    let (set, handle) = crossbeam_channel::bounded::<threadbare::ServerHandle>(1);
    let server = Server::builder().workers(1).serve("127.0.0.1:0", move |_| {
        let (sender, handle) = (sender.clone(), handle.clone());
        move |_: &mut Socket<'_>, _: MessageRef<'_>| {
            let list = handle.recv_timeout(DEADLINE).expect("the test sends it").peers(DEADLINE);
            sender.send(list.len()).expect("the test waits");
        }
    });
    let server = server.expect("a server");
    let mut client = Client::open(server.local_addr());
    set.send(server.handle()).expect("the handler waits");
    client.send(&text("list"));
    assert_eq!(lists.recv_timeout(DEADLINE), Ok(0));
}

#[test]
fn a_pool_counts_for_all_of_its_clients() {
    let server = echo_server(Server::builder());
    let pool = ClientPool::new(2, Config::default()).expect("a pool");
    let builder = threadbare::Client::builder().no_proxy().pool(&pool);
    let clients: Vec<_> =
        (0..4).map(|_| builder.connect(&format!("ws://{}", server.addr)).expect("connects")).collect();
    for client in &clients {
        client.send("hello").expect("it is open");
        assert!(client.recv().expect("it is open").is_some());
        client.close(CloseCode::NORMAL_CLOSURE, "").expect("it is open");
        assert_eq!(client.recv().expect("a clean end"), None);
    }
    eventually("all have ended", || pool.stats().closed(CloseCode::NORMAL_CLOSURE) == 4);
    let stats = pool.stats();
    assert_eq!((stats.opened, stats.messages_sent, stats.messages_received), (4, 4, 4));
}

#[test]
fn the_text_for_monitors_has_the_counts() {
    let builder = Server::builder().http_with_server(|_, server| server.stats().response());
    let server = echo_server(builder);
    let mut client = Client::open(server.addr);
    client.send(&text("hello"));
    client.expect_frame();
    client.send(&close(4321));
    client.expect_close(4321);
    eventually("it has ended", || server.handle.stats().traffic.closed_in_all() == 1);
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let response = send_request(server.addr, request);
    let text = response.text();
    assert_eq!(response.header("Content-Type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    for line in [
        "threadbare_server_messages_received_total 1\n",
        "threadbare_server_connections_closed_total{code=\"4000\"} 1\n",
        "threadbare_server_connections_closed_total{code=\"1006\"} 0\n",
        "threadbare_server_upgraded_total 1\n",
        "# TYPE threadbare_server_iteration_seconds histogram\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_client_without_a_pool_says_what_its_thread_did() {
    let server = Server::builder().serve("127.0.0.1:0", |_| Echo).expect("a server");
    let url = format!("ws://{}", server.local_addr());
    let config = Config::default().ping_interval(Duration::from_millis(50));
    let clients = [(); 2].map(|()| {
        let builder = threadbare::Client::builder().config(config.clone());
        builder.connect(&url).expect("connects")
    });
    for number in 0..3 {
        clients[0].send(number.to_string()).expect("open");
        assert!(clients[0].recv().is_ok_and(|message| message.is_some()));
    }
    eventually("the last iteration has ended, and a ping is answered", || {
        let traffic = clients[0].traffic();
        traffic.messages_received == 3 && traffic.round_trip_time.count() > 0
    });
    let traffic = clients[0].traffic();
    assert_eq!((traffic.opened, traffic.messages_sent, traffic.closed_in_all()), (1, 3, 0));
    assert!(traffic.bytes_sent >= 3 * 7 && traffic.iteration_time.count() > 0, "{traffic:?}");
    assert_eq!(clients[1].traffic().messages_sent, 0, "each has a thread of its own");
    clients[0].close(CloseCode(4001), "").expect("open");
    assert!(clients[0].recv().is_ok_and(|message| message.is_none()));
    eventually("the end is counted", || clients[0].traffic().closed(CloseCode(4001)) == 1);
}

#[test]
fn the_prefix_of_names_is_made_legal() {
    let pool = ClientPool::new(1, Config::default()).expect("a pool");
    for (prefix, name) in [("feed", "feed"), ("a-b c", "a_b_c"), ("1st", "_1st"), ("", "_"), ("ä", "__")] {
        let text = pool.stats().openmetrics(prefix);
        assert!(text.contains(&format!("\n{name}_messages_sent_total 0\n")), "{prefix:?}: {text}");
    }
}

#[test]
fn what_slow_subscribers_of_topics_miss_is_counted() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(worker_count()), echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        peer.subscribe("news").expect("it is open");
        let handle = app.handle();
        let news = handle.topic("news").expect("a name");
        let message = vec![7; 300_000];
        for _ in 0..50 {
            news.publish(message.as_slice());
        }
        // What it has missed is known once it goes on.
        while handle.stats().traffic.skipped == 0 {
            client.read();
        }
        eventually("all counts agree", || handle.stats().traffic.skipped == news.stats().skipped);
        assert!(handle.stats().openmetrics().contains("\nthreadbare_server_topics 1\n"));
        client.reset();
        app.finish();
    }
}

/// The value of a sample, by what its line begins with.
fn sample(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().expect("a number"))
}

#[test]
fn each_topic_has_metrics_and_its_name_can_not_break_the_text() {
    // A peer may have chosen it.
    const NAME: &str = "a \"room\"} 7\n# EOF\\\r\u{2028}";
    const LABEL: &str = "{topic=\"a \\\"room\\\"} 7\\n# EOF\\\\\r\u{2028}\"}";
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(worker_count()), echo);
        // One after the other, so that each peer has the number of its client.
        let (mut clients, peers): (Vec<_>, Vec<_>) = (0..3).map(|_| (Client::open(app.addr), app.opened())).unzip();
        for peer in &peers {
            peer.subscribe(NAME).expect("it is open");
        }
        let other = app.handle().topic("other").expect("a name");
        other.publish("nobody hears it");
        app.handle().publish(NAME, "one");
        app.handle().publish_except(&peers[0], NAME, "two");
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.expect_frame().payload, b"one");
            if number > 0 {
                assert_eq!(client.expect_frame().payload, b"two");
            }
        }
        eventually("all is counted and freed", || {
            let stats = app.handle().stats();
            stats.topic_totals.delivered == 5 && stats.topic_totals.bytes == 0
        });
        let stats = app.handle().stats();
        let names: Vec<_> = stats.largest_topics.iter().map(|(name, _)| &**name).collect();
        assert_eq!((stats.topics, names), (2, vec![NAME, "other"]));
        let text = stats.openmetrics();
        let of = |name: &str| sample(&text, &format!("threadbare_server_topic_{name}{LABEL}"));
        assert_eq!(
            (of("subscribers"), of("published_total"), of("published_bytes_total")),
            (Some(3), Some(2), Some(10))
        );
        assert_eq!((of("delivered_total"), of("skipped_total"), of("disconnected_total")), (Some(5), Some(0), Some(0)));
        assert_eq!((of("held_messages"), of("held_bytes")), (Some(0), Some(0)));
        let published = |name: &str| sample(&text, &format!("threadbare_server_{name}"));
        assert_eq!(published("topic_published_total{topic=\"other\"}"), Some(1));
        assert_eq!((published("topics_published_total"), published("topics_subscribers")), (Some(3), Some(3)));
        assert!(text.ends_with("\n# EOF\n") && text.matches("\n# EOF").count() == 1, "{text}");

        drop(clients);
        drop(other);
        eventually("the topics have ended", || app.handle().stats().topics == 0);
        let stats = app.handle().stats();
        assert_eq!(
            (stats.topic_totals.published, stats.topic_totals.subscribers, stats.largest_topics.len()),
            (3, 0, 0)
        );
        app.finish();
    }
}

#[test]
fn the_number_of_topics_with_metrics_of_their_own_is_bounded() {
    let app = App::start(Mode::Channel, Server::builder().workers(1), echo);
    let _clients: Vec<_> = (0..2).map(|_| Client::open(app.addr)).collect();
    let peers = [app.opened(), app.opened()];
    for number in 0..1_000 {
        peers[0].subscribe(&format!("room/{number}")).expect("it is open");
        if number % 100 == 7 {
            peers[1].subscribe(&format!("room/{number}")).expect("it is open");
        }
    }
    let stats = app.handle().stats();
    assert_eq!((stats.topics, stats.topic_totals.subscribers, stats.largest_topics.len()), (1_000, 1_010, 100));
    let with_two: Vec<_> = (0..10).map(|hundred| format!("room/{hundred}07").replace("/007", "/7")).collect();
    let mut first: Vec<_> = stats.largest_topics.iter().take(10).map(|(name, _)| name.to_string()).collect();
    first.sort_by_key(|name| (name.len(), name.clone()));
    assert_eq!(first, with_two);
    let text = stats.openmetrics();
    assert_eq!(text.matches("threadbare_server_topic_subscribers{").count(), 100);
    app.finish();
}
