//! How it works, and how to choose: threads, ownership, backpressure, closing, limits.
//!
//! # Threads
//!
//! A server has as many worker threads as it was told to have (default: one per core) and, beside two or more, one
//! reactor thread, whatever the number of connections. The reactor accepts, reads request heads, asks the application's
//! hooks, answers plain HTTP, and hands each established socket by value to the worker with the fewest. From then on
//! that worker alone touches it, so nothing that a message passes through is shared with another worker or locked.
//!
//! A lone worker is the reactor as well, in its own poll, and the server has that one thread. A second one could hand
//! over to nobody else, and each connection would wake two threads where one has all it takes: connect, handshake and
//! close cost 37 us of CPU with a second thread and 23 without, where a bare epoll loop spends 22. It differs from a
//! reactor with a thread of its own in this: what holds the worker up holds up accepts and handshakes, and what holds up
//! the reactor's hooks ([`on_request`](crate::ServerBuilder::on_request), [`http`](crate::ServerBuilder::http), the making
//! of a handler) holds up messages. At most 64 connections are accepted in a turn, so that established ones have theirs in
//! a flood of handshakes. Who must block in a callback has two workers at least, or gives the work to another thread.
//!
//! A lone worker may for a while be run by the application's thread that waits for its events, as
//! [below](#a-handler-or-events): there is always one thread that runs it, or will in 4 ms.
//!
//! A worker waits in its poll and nowhere else: never on a channel, on a lock held over a callback, or on a socket. What
//! other threads want of it they put into its inbox, encoded; it is woken at most once for all of them.
//!
//! # A handler, or events?
//!
//! | | [`Handler`](crate::Handler) | [`Event`](crate::Event)s |
//! | --- | --- | --- |
//! | runs on | the connection's worker | the application's thread |
//! | message | borrowed from the receive buffer | owned, or lent with its batch |
//! | may block | no: the worker's other connections wait | yes: its clients are slowed down, nobody else |
//! | state of one connection | in the handler, no lock | wherever the application keeps it |
//! | state of all | behind a lock, or through [`Peer`](crate::Peer)s | on that one thread, no lock |
//!
//! A handler costs what the system calls cost. An event costs more where messages come one at a time and a sleeping
//! thread must be woken for each: a third to a half of the message's cost, for worker and application then exchange
//! batches of one. Under load a batch holds what a whole turn of the worker received, and the difference is small.
//!
//! An application that is done with an event when it asks
//! for the next borrows them with [`next_ref`](crate::Iter::next_ref): no message is copied and no handle counted, half of
//! what a short message costs its thread.
//!
//! [`channels(n)`](crate::ServerBuilder::channels) spreads connections over n application threads; each connection keeps
//! its order. In a crossbeam `Select` a batch is one operation; crossbeam spins before it sleeps, which
//! [`recv`](crate::Server::recv) does not.
//!
//! # Order and answers
//!
//! Messages of a connection are delivered in the order of their arrival, and all that were complete before the peer
//! broke the protocol are delivered first. What one readiness of a socket makes a handler send leaves in one write. The
//! close frame that answers the peer's, or fails the connection, leaves after the answers to the messages before it: at
//! once with a handler; with events when the application comes to the connection's
//! [`Event::Close`](crate::Event::Close), or after 500 ms.
//!
//! # Clients
//!
//! A [`Client`](crate::Client)'s handshake runs on the thread that connects, with a deadline for each phase; then its
//! socket lives on a worker: a thread of its own, or one of a [`ClientPool`](crate::ClientPool) that any number of clients
//! share. The worker answers pings, keeps the timeouts and completes closes while the application does something else.
//! [`WebSocket`](crate::WebSocket) has no worker: there all of that happens during `recv`.
//!
//! A [`ReconnectingClient`](crate::ReconnectingClient) has, beside its worker, one thread that connects, waits and watches:
//! the number is the same whether the server is there or not. The events of all its connections come through one channel,
//! so that nothing changes for who receives. Each connection begins with
//! [`on_connect`](crate::Reconnect::on_connect), the place to subscribe; then what waited in the outbox goes out, in order;
//! then what is sent goes to the connection directly. What was handed to a connection that breaks may be lost and is not
//! sent again; what waits in the outbox is not. The outbox is bounded in bytes as a connection's output is, and a sender
//! that meets it full waits in the same ways.
//!
//! The delays grow from 5 s to a minute, each cut short by chance, so that the clients of a server that went down do not
//! come back as one; only a connection that held for 10 s makes them short again. What trying again would not mend is the
//! end: [`Outage::is_transient`](crate::Outage::is_transient) has the list, and
//! [`retry_if`](crate::Reconnect::retry_if) the last word.
//!
//! # When somebody is slow
//!
//! *A client that does not read.* Its output is queued up to
//! [`max_write_buffer_size`](crate::Config::max_write_buffer_size). That is a high-water mark: a message is taken while
//! less is queued, whatever its own size. Above the mark a handler's worker stops reading from this connection, so that
//! a handler that answers needs no policy and loses nothing. For messages from elsewhere, other threads and broadcasts,
//! [`SlowConsumer`](crate::SlowConsumer) says what happens. Where messages go to another thread, as a
//! [`Client`](crate::Client)'s do and a server's events, reading goes on: senders wait for room themselves, and a peer
//! that reads nothing before its own output is taken would otherwise wait for us as we for it. A client that takes nothing for
//! [`write_timeout`](crate::Config::write_timeout) is closed with 1008. Control frames always have room.
//!
//! *An application that does not take its events.* Above
//! [`max_event_buffer_size`](crate::Config::max_event_buffer_size) the workers stop reading the connections behind that
//! receiver; TCP makes the clients wait. Connections behind other receivers go on, and so do writing and keeping
//! deadlines. Nothing is lost and nothing is reordered. A connection that is not read is not pinged either.
//!
//! *A handler that blocks* holds up its worker's other connections, the answers that up to seven of them gave just before
//! included, and with a lone worker the handshakes as well. Use events, or give the work to another thread and answer
//! through a [`Peer`](crate::Peer).
//!
//! *A peer that went away without a word* is pinged after [`ping_interval`](crate::Config::ping_interval) of silence and
//! given up after [`pong_timeout`](crate::Config::pong_timeout): an ordinary close with code 1006.
//!
//! # Closing
//!
//! [`close`](crate::Peer::close) starts the closing handshake behind what was sent before; [`abort`](crate::Peer::abort)
//! drops TCP. Either way, and however else a connection ends, the application is told once. The library answers the
//! peer's close frame, tells a peer that breaks the protocol why, sends FIN, and reads out what is in flight, so that
//! the kernel does not turn the close frame into a reset. A peer that does not answer or close has
//! [`close_timeout`](crate::Config::close_timeout).
//!
//! [`shutdown`](crate::ServerHandle::shutdown) does that for all connections, with one deadline.
//!
//! # Panics
//!
//! A panic in a callback closes its connection with 1011 (or answers its handshake with 500) and touches nobody else.
//! That needs unwinding: with `panic = "abort"` it ends the process, as everywhere.
//!
//! # Memory
//!
//! An idle connection has no buffer. Its worker receives into one buffer of 256 KiB for all, hands messages out as
//! slices of it, and gathers answers in one other. What is incomplete moves to a buffer of the connection's own and is
//! freed when it is complete; a large message is received straight into its own buffer, which grows with what has
//! arrived, never with what was announced, and is kept half a second to a second for the next. A
//! [`Peer`](crate::Peer) of a connection is allocated when it is first asked for; with events that is at once. So an idle
//! connection takes some 165 bytes with a handler and 250 with events, once it was used (`tests/interop/idle_memory.py`).
//!
//! # Compression
//!
//! With the feature `deflate` and `Config::deflate`, permessage-deflate (RFC 7692) is negotiated with whoever speaks it.
//! The limit on messages then holds for what they inflate to: inflating stops a byte beyond it, and the connection ends
//! with 1009, so that a small bomb does not become a large one.
//!
//! Without context takeover, the default, the connections of a worker share one compressor and one decompressor, 418 KiB
//! while they are in use and given back within a second. A connection that negotiated it costs 64 bytes more than one
//! that did not. Under context takeover each connection has its own: a compressor of up to 371 KiB, given back when
//! nothing was sent for half a second to a second, with the last 4 KiB of what was sent kept for the next one to refer
//! to; and a decompressor of 47 KiB, which must be kept, for the peer may refer to any of the last 32 KiB that it sent.
//!
//! All [`WebSocket`](crate::WebSocket)s of a process share four compressors and decompressors, more while more threads are
//! at it at once. Nobody looks after those that are idle: under context takeover each keeps its compressor while it lives.
//!
//! A broadcast, or a [`Prepared`](crate::Prepared) message, is compressed once for each size of window among those who
//! are to get it, whatever their number, and not at all if nobody negotiated compression. Those with context takeover
//! compress it for themselves, which is what their smaller messages cost.
//!
//! What is compressed tells by its size what is in it. Where a message holds a secret (a token, a session's key) beside
//! text that somebody else has chosen, that somebody can guess the secret byte by byte, by watching which guess makes
//! the message shorter: CRIME and BREACH. Under context takeover the two need not even be in the same message. Send
//! such messages, and what is compressed already, with
//! [`Compression::Never`](crate::Compression::Never): `send_with` of [`Socket`](crate::Socket::send_with),
//! [`Peer`](crate::Peer::send_with), [`Client`](crate::Client::send_with) and
//! [`WebSocket`](crate::WebSocket::send_with), and [`Prepared::with`](crate::Prepared::with). They leave as they are and
//! become no part of what later messages refer to.
//!
//! [`Stats::deflate`](crate::Stats::deflate) tells what was saved.
//!
//! # Where it departs from what one might expect
//!
//! * Incoming frames are decoded at most 256 at a time per connection and turn; what is left is copied out of the shared
//!   buffer once and goes on in the next turn, so that a flood of tiny frames does not hold up its neighbours.
//! * The bound on waiting events is in bytes, held by the worker before it reads, on a channel that is unbounded itself:
//!   a bounded channel of batches could be full when a close event must go in, and would bound the wrong thing.
//! * A broadcast is one command for each worker, and a frame that is sent to many is written from the one place where it
//!   was encoded. Only where a connection is behind are small frames copied into its queue, lest their bookkeeping take
//!   more memory than their bytes.
//! * While an application thread works through a batch of several events, its answers to the worker that the batch is
//!   from do not wake that worker one by one; the end of the batch does, and until then it looks once a millisecond.
//! * Beside two workers or more, handshakes are read at once when a connection is accepted, and given to the reactor's
//!   poll only if the request is not there yet; a worker that was given connections is woken once a turn. A lone worker
//!   gives a socket its name in the poll at the accept, and the connection keeps it: nothing is registered twice.
//! * On Linux the listener is asked whether another connection waits before it is accepted. The kernel makes a file, to be
//!   freed later, before it finds that there is none: 5.6 us for an attempt in vain and 0.45 for the question. Where
//!   connections come one by one that is a twenty-fifth of what each costs.
//! * The poll reports that a socket has room from the first time on that its output was stuck. Before that there is room
//!   at once, and the report would wake the worker for each connection to no end.
//! * The echo of a large message leaves in one piece from where it was received: its header, which is shorter than the
//!   received one by the masking key, is written over that. A large payload begins with a cache line. 64 KiB cost 15.5 us in
//!   place of 18 with the first, and a twentieth less with the second.
//! * What is received lies far from where a page begins, for there the kernel's own pieces of a stream mostly do. To an
//!   address that, counted from there, is 1 to 31 bytes behind the one that is copied from, AMD's Zen 3 copies up to twenty
//!   times slower; such pairs come up again and again where each message begins a few bytes behind the one before. An
//!   echo of 64 KiB costs a tenth less, and would cost a bare loop a tenth less, too.
//! * At most 128 connections have a turn between two polls. What they receive waits for the application's thread in
//!   memory that is kept; with 1,024 an idle connection took 46 bytes more after use, and none of them was served faster.
//! * A lone worker is lent to the application's thread where messages come one by one, so that the two need not wake each
//!   other for each: at 20,000 messages a second that is most of what events cost more than a handler. A socket belongs to
//!   whoever runs its worker; to nobody for the moment in which the application is at work on an event.
//! * A worker that woke the application's thread looks into its inbox before it polls again, and lets that thread run
//!   first if it has not: on a busy core the answer then costs no wake-up. It is always the worker that writes: a write
//!   from the application's thread would leave alone, where those of a batch leave together.
//! * A message of 16 KiB and more goes to the application's thread in a buffer of its own rather than in the batch's block,
//!   which would have it copied twice: 23 us for an echo of 64 KiB in place of 63.
//! * On Linux a worker sleeps without a timeout, and a timer of its own, a descriptor in its poll, wakes it for deadlines. A
//!   timeout is a timer that the kernel arms and cancels with every sleep: 0.4 us of the 13 us that a message costs a
//!   server that sleeps after each. The timer is set anew only for a deadline that is earlier than the one it stands for;
//!   deadlines are mostly put off, so it is hardly ever touched.
//! * On Linux sockets are read and written by the system calls themselves. libc's functions are points at which a thread can
//!   be cancelled, and in a program with several threads they take care of that each time: 40 ns of the 5 us of an echo.
//! * The memory of the next eight connections of a poll or a broadcast is looked at before the first of them is served,
//!   so that the processor waits for all of it at once and not for each piece when it comes to it.
//! * Those eight connections are all read before any of them is written to: the kernel's code for receiving and that for
//!   sending do not fit into a core's first cache beside each other, and each is used eight times before the other takes
//!   its place. That is 3 % of an echo, and 4 of one in a burst of 32. Answers wait no longer once that took 0.1 ms, so
//!   that callbacks that compute hold them up by one callback at most; and more than 16 KiB does not wait at all.
//! * A turn's small broadcasts are joined once, and written to a connection that nothing else is to be done for without
//!   the rest of a turn: 0.1 us of the 4.5 that a delivery to each of 1,000 connections costs. So are the messages from
//!   other threads, straight from the worker's inbox: a ninth of the instructions of an echo through a channel.
//! * Bytes that senders post to a connection are counted apart from those that its worker has settled, under the lock of the
//!   worker's inbox, which they hold anyway: one locked instruction less for each message. What
//!   [`queued_bytes`](crate::Peer::queued_bytes) shows is the sum, which may be too high for the moment of a post.
//! * A whole, masked data frame with nothing before it goes straight from its header to the handler, and everything else
//!   through the general decoder: a seventh of the instructions of a short message. Up to 64 bytes, and what is left of more,
//!   are masked as two halves that may overlap, both read before either is written: no loop, and one branch for each size's
//!   class. With short texts seen to be short once, that is another twelfth of the instructions, and a seventh of the time.
//! * What a worker does seldom is kept out of the code that it runs at each turn (`#[inline(never)]`), so that this lies
//!   close together, in 113 cache lines in place of 136: where 10,000 connections' memory has gone through the caches in
//!   between, the code comes from as far away as they do.
//! * Text of up to 511 bytes is first looked at as ASCII, which most of it is, unless so many bytes would be left behind
//!   the last whole block of 64 that the check for all of UTF-8 is faster; long payloads are unmasked with the widest
//!   vectors that the processor has, through a crate that makes that safe.
//! * After a clean closing handshake with nothing behind the close frame, a server closes its socket at once; in all other
//!   cases it sends FIN and reads on until the peer closes.
//! * No answer is given to data that arrives after a close frame of ours, and after the peer's it is not even decoded.
