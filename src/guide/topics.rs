//! Topics: messages to those who are subscribed, slow subscribers, history, and coming back without a gap.
//!
//! # Publish and subscribe
//!
//! A topic is a name. There is nothing to create: a connection subscribes, and what is published to that name from then on
//! is sent to it. From a handler:
//!
//! ```no_run
//! use threadbare::{Handler, MessageRef, Server, Socket};
//!
//! struct Chat {
//!     room: String,
//! }
//!
//! impl Handler for Chat {
//!     fn on_open(&mut self, socket: &mut Socket<'_>) {
//!         if let Err(error) = socket.subscribe(&self.room) {
//!             socket.send(error.to_string()); // the name is too long
//!         }
//!     }
//!
//!     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
//!         socket.publish_to_others(&self.room, message);
//!     }
//! }
//!
//! let server = Server::builder().serve("127.0.0.1:8080", |request| Chat { room: request.path().to_owned() })?;
//! server.handle().publish("/lobby", "the server has started"); // from any thread
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! With events it is [`Peer::subscribe`](crate::Peer::subscribe) and
//! [`ServerHandle::publish`](crate::ServerHandle::publish). An application that publishes often to one topic keeps a
//! [`Topic`](crate::Topic). A connection that closes leaves its topics by itself.
//!
//! * A message is encoded once, and compressed once for each window size, however many are subscribed.
//! * `publish` never waits. Where nobody is subscribed it costs a look-up of the name.
//! * Each topic's messages arrive in order. What one thread publishes and what it sends through a
//!   [`Peer`](crate::Peer) arrive in order too, as long as the connection keeps up. Two topics have no order.
//! * In a handler, what [`Socket::send`](crate::Socket::send) sends arrives before what the same callback has published: that leaves at the
//!   end of the iteration of the event loop.
//! * To tell everybody, [`broadcast`](crate::ServerHandle::broadcast) needs no subscription.
//!
//! Where peers choose the names, they can not take all memory: [`Config::max_topics`](crate::Config::max_topics) and
//! [`Config::max_subscriptions`](crate::Config::max_subscriptions) bound them, and `subscribe` says when it refuses. Where peers choose
//! the names to which they publish, check these too if there is a [bridge](crate::ServerBuilder::bridge): it takes a message to the other
//! servers even if nobody is subscribed here, and a stream of Redis is a key that stays.
//!
//! # Subscribers that read too slowly
//!
//! [`Slow`](crate::Slow) is for topics what [`SlowConsumer`](crate::SlowConsumer) is for all other messages, which does not hold
//! for them. Nothing is queued for a subscriber that does not keep up: the topic has a buffer, and the subscriber takes what it lacks
//! from there when it reads again. What the buffer ([`TopicConfig::buffer`](crate::TopicConfig::buffer)) had no room for
//! is its loss. [`Stats::dropped`](crate::Stats::dropped) and [`TopicStats::skipped`](crate::TopicStats::skipped) count
//! it, and the hook is told, so that the application can tell the client:
//!
//! ```
//! use threadbare::{Server, Slow, TopicConfig, TopicEvent};
//!
//! let server = Server::builder()
//!     .topics(|name| match name {
//!         "prices" => TopicConfig::default().slow(Slow::Latest), // only the newest counts
//!         "moves" => TopicConfig::default().slow(Slow::Disconnect), // all, or the end with 1008
//!         _ => TopicConfig::default(), // on with the oldest that there is
//!     })
//!     .on_topic(|event| {
//!         if let TopicEvent::Gap(peer, topic, missed) = event {
//!             let _ = peer.send(format!(r#"{{"topic":"{topic}","missed":{missed}}}"#)); // it may be gone
//!         }
//!     })
//!     .bind("127.0.0.1:0")?;
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! # History
//!
//! [`TopicConfig::keep`](crate::TopicConfig::keep) has a topic keep its newest messages, also while nobody is subscribed. Its bytes are
//! those of frames, which have up to 10 bytes beside the payload: a message that is larger than the history is not kept.
//!
//! * **The last value for a new subscriber**: `keep(1, 64 << 10, Duration::MAX)` (messages, bytes, age), and `subscribe_since(name, Since::Oldest)`.
//! * **Coming back without a gap**: the application puts the position into each message, the client returns the last one that it
//!   had, and gets what followed. [`Subscription::missed`](crate::Subscription::missed) says how many messages were too
//!   old; then the client needs the whole state anew.
//!
//! ```
//! use std::time::Duration;
//! use threadbare::{Client, Event, Message, Peer, Server, Since, TopicConfig};
//!
//! fn subscribe(peer: &Peer, last: Option<&str>) {
//!     let since = last.and_then(|last| last.parse().ok()).map_or(Since::Now, Since::Position);
//!     match peer.subscribe_since("news", since) {
//!         Ok(subscription) if subscription.missed > 0 => drop(peer.send("load everything again")),
//!         Ok(_) => {}
//!         Err(error) => println!("{} is not subscribed: {error}", peer.id()),
//!     }
//! }
//!
//! let server = Server::builder()
//!     .topics(|_| TopicConfig::default().keep(1_000, 1 << 20, Duration::from_secs(300)))
//!     .bind("127.0.0.1:0")?;
//! let news = server.handle().topic("news")?;
//! let seen = news.publish("one").position.expect("there is a history").to_string();
//! news.publish_with(|position| format!("two, at {position}"));
//!
//! let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
//! let Event::Open(peer, _) = server.recv()? else { panic!("the first event") };
//! subscribe(&peer, Some(&seen));
//! let Some(Message::Text(text)) = client.recv()? else { panic!("a message") };
//! assert!(text.starts_with("two, at "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Positions are those of one process, and of the one that it is handed over to (feature `handover`). After another restart `missed` is
//! `u64::MAX`, and the client takes [`Subscription::position`](crate::Subscription::position) as its new one. It compares the offsets
//! of two positions only after it has seen that nothing was missed. A client that reconnects sends its last position in
//! [`on_connect`](crate::Reconnect::on_connect); what it has received and not looked at yet may then come again, so it drops
//! what is not behind its last position.
//!
//! What is sent to a connection after `subscribe_since` may arrive before the history or behind it. So a client that is to load
//! everything again waits for that word before it applies what comes, or the server says it in a message of the topic.
//!
//! A [`Gap`](crate::TopicEvent::Gap) is told where it is: what the hook sends to the connection arrives behind the messages before the
//! gap, and ahead of those that follow. These wait for the hook, so that one that takes long holds up its connections' topics.
//!
//! What `publish_with` calls runs while the topic is locked: it makes the message and no more. A handler gets the topic's handle, and so
//! `publish_with`, from [`Socket::topic`](crate::Socket::topic). The example `chat` has a page
//! that does all this, with several servers too.
//!
//! # Who is there
//!
//! [`TopicEvent`](crate::TopicEvent) tells the first and the last subscriber of each topic. With
//! [`TopicConfig::presence`](crate::TopicConfig::presence) it also tells each that comes and goes, and
//! [`Topic::peers`](crate::Topic::peers) lists them. The hook ([`ServerBuilder::on_topic`](crate::ServerBuilder::on_topic))
//! runs on the workers' threads, with events too, and must not block.
//!
//! These are connections of this server. Users with several tabs, and lists over several servers, are the application's:
//! [`Peer::data`](crate::Peer::data) says whose a connection is. In a room of thousands, tell a number now and then rather than
//! each change: every one of `n` who come would be told to `n` others.
//!
//! # Many machines
//!
//! A [`Bridge`](crate::Bridge) joins the topics of several servers. The feature `redis` has one over Redis:
//!
//! ```no_run
//! # #[cfg(feature = "redis")] {
//! use threadbare::{Redis, Server, TopicEvent};
//!
//! let redis = Redis::new("redis://127.0.0.1:6379")?.prefix("app:"); // with `.streams(10_000)`, nothing is lost while Redis is gone for a while
//! let server = Server::builder()
//!     .bridge(redis)
//!     .on_topic(|event| {
//!         if let TopicEvent::Gap(peer, topic, missed) = event {
//!             let _ = peer.send(format!("{missed} messages of {topic} were lost")); // 0: it is not known
//!         }
//!     })
//!     .bind("0.0.0.0:8080")?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * What is published here is sent to the subscribers here at once, and does not pass through Redis: a Redis that is slow or gone
//!   changes nothing for them. So the order of messages is that of each publisher, not one for all servers.
//! * A server asks Redis only for topics that have subscribers here.
//! * Each message that does not arrive is counted, in [`ServerHandle::bridge_stats`](crate::ServerHandle::bridge_stats) and in the
//!   text for monitors, and told as [`TopicEvent::Gap`](crate::TopicEvent::Gap).
//! * What others publish while a topic has no subscribers here does not come here, and is not in its history. Who comes back by a position
//!   from before is told a [`Gap`](crate::TopicEvent::Gap) of 0, an unknown number.
//! * Positions, subscribers and counts are those of this server. A client that comes back to another server gets
//!   `missed` of `u64::MAX` for its position: nobody knows how much it has missed there.
//! * What else may carry topics implements [`Bridge`](crate::Bridge). How far this goes is in `docs/scale.md`.
